"""The training room: the one place that knows of PyTorch and Keras."""
