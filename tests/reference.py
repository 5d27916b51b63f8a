"""The slow and obvious way to every number of the package, in float64.

Written from the papers and from TensorFlow's rules, one pixel, output and spectrum at a
time. It shares no array code with the package: only names, constants and containers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qnp_xp._network.description import Network
from qnp_xp.lines import absorber_IGM

Float64 = NDArray[np.float64]
Arm = tuple[Any, Any, Any]


def bin_of(wavelength: float, grid: ArrayLike) -> int | None:
    """Bin that a wavelength falls into; None off the grid."""
    edges = [float(edge) for edge in np.asarray(grid)]
    last = len(edges) - 1
    widths = [edges[i + 1] - edges[i] for i in range(last)]
    if max(widths) - min(widths) < 1e-3 * max(widths):
        step = (edges[last] - edges[0]) / last
        position = (wavelength - edges[0]) / step
    else:
        step = (math.log10(edges[last]) - math.log10(edges[0])) / last
        position = (math.log10(wavelength) - math.log10(edges[0])) / step
    place = math.floor(round(position, 9))
    return place if 0 <= place <= last else None


def usable(flux: float, ivar: float) -> bool:
    """Whether a pixel counts."""
    return math.isfinite(flux) and math.isfinite(ivar) and ivar > 0


def suspect(flux: float, ivar: float) -> bool:
    """Whether a pixel is one that no healthy spectrum has."""
    if not math.isfinite(ivar) or ivar < 0:
        return True
    return not math.isfinite(flux) and ivar > 0


def rebin(
    flux: ArrayLike, ivar: ArrayLike, wavelengths: ArrayLike, grid: ArrayLike
) -> tuple[Float64, Float64]:
    """Sums of ``flux * ivar`` and of ``ivar`` in the bins of a grid.

    A product has the precision of the pixels, the sums have float64.
    """
    pixels = np.asarray(flux), np.asarray(ivar)
    flux, ivar = (x if x.dtype.kind == "f" else x + 0.0 for x in pixels)
    size = len(np.asarray(grid))
    flux_sum = np.zeros((len(flux), size))
    ivar_sum = np.zeros((len(flux), size))
    for pixel, wavelength in enumerate(np.asarray(wavelengths, np.float64).tolist()):
        place = bin_of(wavelength, grid)
        if place is None:
            continue
        for row in range(len(flux)):
            if usable(flux[row, pixel], ivar[row, pixel]):
                flux_sum[row, place] += float(flux[row, pixel] * ivar[row, pixel])
                ivar_sum[row, place] += float(ivar[row, pixel])
    return flux_sum, ivar_sum


def combine(
    arms: Sequence[Arm], grid: ArrayLike
) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Weighted mean flux in each bin, its weight, and which spectra were cleaned."""
    n, size = len(arms[0][1]), len(np.asarray(grid))
    flux_sum, ivar_sum = np.zeros((n, size)), np.zeros((n, size))
    cleaned = np.zeros(n, dtype=bool)
    for wavelengths, flux, ivar in arms:
        of_arm = rebin(flux, ivar, wavelengths, grid)
        flux_sum += of_arm[0]
        ivar_sum += of_arm[1]
        for row in range(n):
            pixels = zip(flux[row], ivar[row], strict=True)
            cleaned[row] |= any(suspect(float(f), float(i)) for f, i in pixels)
    mean = np.zeros((n, size))
    for row in range(n):
        for place in range(size):
            if ivar_sum[row, place] > 0:
                mean[row, place] = flux_sum[row, place] / ivar_sum[row, place]
    return mean, ivar_sum, cleaned


def normalize(flux: ArrayLike, ivar: ArrayLike) -> Float64:
    """Weighted mean taken off, divided by the weighted rms; for healthy spectra."""
    flux, ivar = np.asarray(flux, np.float64), np.asarray(ivar, np.float64)
    x = np.empty(flux.shape)
    for row in range(len(flux)):
        mean = np.average(flux[row], weights=ivar[row])
        variance = np.average((flux[row] - mean) ** 2, weights=ivar[row])
        x[row] = (flux[row] - mean) / math.sqrt(variance)
    return x


def conv1d(
    x: ArrayLike, kernel: ArrayLike, stride: int, bias: ArrayLike | None, padding: str
) -> Float64:
    """Cross-correlation, channels last; what lies beyond the ends is left out."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    (n, length, _), (k, _, filters) = x.shape, kernel.shape
    if padding == "same":
        # TensorFlow: the last window ends at or behind the end of the input, and of
        # what is missing for that the smaller half comes before its start.
        outputs = math.ceil(length / stride)
        missing = max((outputs - 1) * stride + k - length, 0)
        start = -(missing // 2)
    else:
        outputs = (length - k) // stride + 1
        start = 0
    y = np.zeros((n, outputs, filters))
    for output in range(outputs):
        for tap in range(k):
            place = start + output * stride + tap
            if 0 <= place < length:
                y[:, output] += x[:, place] @ kernel[tap]
        if bias is not None:
            y[:, output] += np.asarray(bias, np.float64)
    return y


def batch_normalization(
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    beta: ArrayLike,
    gamma: ArrayLike,
    epsilon: float,
) -> Float64:
    """Batch normalisation, one channel at a time."""
    y = np.array(x, dtype=np.float64)
    for channel in range(y.shape[-1]):
        width = math.sqrt(float(np.asarray(var)[channel]) + epsilon)
        y[..., channel] -= float(np.asarray(mean)[channel])
        y[..., channel] *= float(np.asarray(gamma)[channel]) / width
        y[..., channel] += float(np.asarray(beta)[channel])
    return y


def dense(x: ArrayLike, kernel: ArrayLike, bias: ArrayLike) -> Float64:
    """Fully connected layer without its activation, one output at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    y = np.empty((len(x), kernel.shape[1]))
    for unit in range(kernel.shape[1]):
        y[:, unit] = np.sum(x * kernel[:, unit], axis=1) + np.asarray(bias)[unit]
    return y


def sigmoid(x: ArrayLike) -> Float64:
    """Logistic function, by way of tanh."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(x, np.float64))


def relu(x: ArrayLike) -> Float64:
    """Negative values become 0, and NaN does not."""
    y = np.array(x, dtype=np.float64)
    y[y < 0] = 0.0
    return y


def linear(x: ArrayLike) -> Float64:
    """The same values."""
    return np.array(x, dtype=np.float64)


ACTIVATIONS = {"linear": linear, "relu": relu, "sigmoid": sigmoid}


def flatten(x: ArrayLike) -> Float64:
    """Positions in order, and the channels of each of them side by side."""
    x = np.asarray(x, np.float64)
    n, length, channels = x.shape
    y = np.empty((n, length * channels))
    for place in range(length):
        for channel in range(channels):
            y[:, place * channels + channel] = x[:, place, channel]
    return y


def forward(network: Network, x: ArrayLike) -> Float64:
    """Outputs of a whole network, shape ``(nlines, n, 2 * nboxes)``."""
    y = np.asarray(x, np.float64).reshape(-1, network.nbins, 1)
    for conv in network.convs:
        y = conv1d(y, conv.kernel, conv.stride, conv.bias, conv.padding)
        y = ACTIVATIONS[conv.activation](y)
    y = flatten(y)
    for layer in network.trunk:
        y = ACTIVATIONS[layer.activation](dense(y, layer.kernel, layer.bias))
    outputs = []
    for head in network.heads:
        box = sigmoid(dense(y, head.box.kernel, head.box.bias))
        offset = sigmoid(dense(y, head.offset.kernel, head.offset.bias))
        outputs.append(np.hstack([box, head.scale * offset + head.shift]))
    return np.array(outputs)


def decode(
    preds: ArrayLike, lines: Iterable[str], grid: ArrayLike
) -> tuple[Float64, Float64]:
    """Confidences and redshifts of lines, each of shape ``(nlines, n)``."""
    preds, grid = np.asarray(preds, np.float64), np.asarray(grid, np.float64)
    confidence = np.empty(preds.shape[:2])
    redshift = np.empty(preds.shape[:2])
    nboxes = preds.shape[2] // 2
    for i, name in enumerate(lines):
        for row in range(preds.shape[1]):
            boxes = preds[i, row, :nboxes].tolist()
            box = boxes.index(max(boxes))
            place = (box + preds[i, row, nboxes + box]) / nboxes * len(grid)
            wavelength = float(np.interp(place, np.arange(len(grid)), grid))
            confidence[i, row] = boxes[box]
            redshift[i, row] = wavelength / absorber_IGM[name] - 1
    return confidence, redshift


def best(confidence: Float64, redshift: Float64) -> tuple[Float64, Float64]:
    """Confidence and redshift of the most confident line of each spectrum."""
    rows = range(confidence.shape[1])
    line = [confidence[:, row].tolist().index(max(confidence[:, row])) for row in rows]
    return (
        np.array([confidence[line[row], row] for row in rows]),
        np.array([redshift[line[row], row] for row in rows]),
    )
