"""The training room: the one place that knows of Keras, PyTorch and ONNX.

Each is imported where it is used, so that the package works without them.
"""
