"""The Keras file of the network that ships, with its batch normalization.

Keras has to run on torch: set ``KERAS_BACKEND=torch`` before importing this.
"""

import keras
import torch
from torch import nn

from qnp_xp._train._network import QuasarNet


def to_keras(model: QuasarNet) -> keras.Model:
    """Make the same network in Keras, with QuasarNET's names of layers."""
    layout, layers = model.layout, keras.layers
    count, nboxes = len(layout.convs), layout.nboxes
    spectrum = x = layers.Input((layout.nbins, 1))
    epsilon = model.norms[0].eps
    for i, conv in enumerate(layout.convs, 1):
        x = layers.Conv1D(
            conv.filters, conv.kernel, strides=conv.stride, name=f"conv_{i}"
        )(x)
        norm = f"batch_normalization_{i}"
        x = layers.BatchNormalization(name=norm, epsilon=epsilon)(x)
        x = layers.Activation("relu", name=f"activation_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    (common,), (common_norm,) = model.trunk, model.trunk_norms
    x = layers.Dense(common.out_features, name="fc_common")(x)
    norm = f"batch_normalization_{count + 1}"
    x = layers.BatchNormalization(name=norm, epsilon=epsilon)(x)
    x = layers.Activation("relu", name="fc_activation")(x)
    outputs = []
    for i in range(layout.nheads):
        box = layers.Dense(nboxes, activation="sigmoid", name=f"fc_box_{i}")(x)
        offset = layers.Dense(nboxes, activation="sigmoid", name=f"fc_offset_{i}")(x)
        offset = layers.Rescaling(
            layout.scale[i], offset=layout.shift[i], name=f"rescaling_{i}"
        )(offset)
        outputs.append(layers.Concatenate(name=f"conc_box_{i}")([box, offset]))
    copy = keras.Model(spectrum, outputs, name="QuasarNET")

    def give(name: str, *arrays: torch.Tensor) -> None:
        values = [array.detach().float().numpy() for array in arrays]
        copy.get_layer(name).set_weights(values)

    def give_norm(name: str, norm: nn.Module) -> None:
        give(name, norm.weight, norm.bias, norm.running_mean, norm.running_var)

    for i, convolution in enumerate(model.convolutions, 1):
        kernel = convolution.weight[:, :, 0].permute(2, 1, 0)
        give(f"conv_{i}", kernel, convolution.bias)
        give_norm(f"batch_normalization_{i}", model.norms[i - 1])
    give("fc_common", common.weight.T, common.bias)
    give_norm(norm, common_norm)
    shape = (layout.nheads, 2, nboxes)
    weight = model.heads.weight.view(*shape, -1)
    bias = model.heads.bias.view(shape)
    for i in range(layout.nheads):
        for j, name in enumerate(("box", "offset")):
            give(f"fc_{name}_{i}", weight[i, j].T, bias[i, j])
    return copy
