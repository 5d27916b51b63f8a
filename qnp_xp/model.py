"""The network on a device."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import layers
from ._network.convolution import prepare
from ._network.description import Network
from ._xp.backend import Array, Backend, array_namespace, resolve, to_device, to_host
from ._xp.threads import granted_cores, thread_map
from .padding import fill_rows

__all__ = ["QuasarNP"]

# Spectra of one pass through the network. On a CPU the arrays of a tile stay in the
# cache, a thread takes a block, and each spectrum has its own products, so that its
# bits depend on no other. On a device a tile is always of one shape, the last one
# filled up with zeros: products of another shape may add in another order.
_TILE = 16
_BLOCK = 32
_TILE_ON_DEVICE = 128

# A tile may take this part of the memory that is free when a model is loaded. Of the
# largest activation there are some eight at a time: what goes into a convolution and
# comes out of it, both transformed, and what is on its way to the next.
_PART_OF_MEMORY = 4
_LIVE = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Weights:
    """The arrays of a network on a device, ready for use."""

    convs: list[Callable[[Array], Array]]
    trunk: list[tuple[Array, Array]]
    heads: tuple[Array, Array]
    scale: Array
    shift: Array


@dataclass
class _Tile:
    """Spectra of a tile, which becomes smaller where memory runs out."""

    size: int


@dataclass(frozen=True, eq=False)
class QuasarNP:
    """A trained QuasarNET that predicts on the device it was loaded on.

    Made by `qnp_xp.load_model`. It also unpacks as ``model, grid = load_model(path)``,
    which is what QuasarNP 0.2 returned and desispec calls.

    Attributes
    ----------
    network
        Layers and folded weights on the host.
    wave
        Grid of the network in Angstrom, shape ``(nbins,)``, numpy.
    lines, lines_bal
        Names of the emission lines and of the broad absorption lines, in the order of
        the outputs.
    dtype
        ``"float32"`` or ``"float64"``: what the network computes in.
    weights_name, weights_sha256
        Name of the file and SHA-256 of its bytes.
    nproc
        Threads to predict with on a CPU; None for ``$OMP_NUM_THREADS``, or the cores
        that the process was granted. Results do not depend on it.
    """

    network: Network
    wave: NDArray[np.float64]
    lines: tuple[str, ...]
    lines_bal: tuple[str, ...]
    dtype: str
    weights_name: str
    weights_sha256: str
    backend: Backend
    nproc: int | None = None
    _weights: _Weights = field(init=False, repr=False, compare=False)
    _tile: _Tile = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        dtype: Any = self.dtype  # users pass types of numpy, too
        if not isinstance(dtype, str) or dtype not in ("float32", "float64"):
            msg = f"dtype={dtype!r} is not one of 'float32', 'float64'"
            raise ValueError(msg)
        if self.nproc is not None:
            number: Any = self.nproc
            if not isinstance(number, (int, np.integer)):
                msg = f"nproc must be a whole number, got {self.nproc!r}"
                raise TypeError(msg)
            if self.nproc < 1:
                msg = f"nproc must be 1 or more, got {self.nproc!r}"
                raise ValueError(msg)
        self._prepare()

    def _prepare(self) -> None:
        object.__setattr__(self, "_weights", self._upload())
        object.__setattr__(self, "_tile", _Tile(self._first_tile()))

    def _first_tile(self) -> int:
        if self.backend.is_host:
            return _TILE
        tile, free = _TILE_ON_DEVICE, self.backend.free_memory()
        if free is not None:
            width = 8 if self.dtype == "float64" else 4
            need = _LIVE * width * _largest_activation(self.network)
            while tile > 1 and tile * need > free / _PART_OF_MEMORY:
                tile //= 2
        return tile

    def __getstate__(self) -> dict[str, Any]:
        # Arrays of a device stay there; they are made again from the host's.
        own = ("_weights", "_tile")
        return {k: v for k, v in self.__dict__.items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __iter__(self) -> Iterator[Any]:
        return iter((self, self.wave))

    def __call__(self, x: Array) -> list[Array]:
        """The same as `predict`, as with a Keras model."""
        return self.predict(x)

    @property
    def nlines(self) -> int:
        """Number of outputs: emission and broad absorption lines."""
        return len(self.network.heads)

    @property
    def nboxes(self) -> int:
        """Boxes of each line."""
        return self.network.nboxes

    @property
    def nbins(self) -> int:
        """Bins of the grid."""
        return self.network.nbins

    @property
    def device(self) -> str:
        """Where it computes: ``"cpu"``, ``"gpu:0"``, or a library's name."""
        return self.backend.name

    def to(self, device: Any, *, xp: Any = None) -> QuasarNP:
        """Copy this model to another device.

        Parameters
        ----------
        device, xp
            As for `qnp_xp.load_model`.

        Returns
        -------
        QuasarNP
        """
        return dataclasses.replace(self, backend=resolve(device, xp))

    def with_nproc(self, nproc: int) -> QuasarNP:
        """Copy this model, to predict with another number of threads.

        Parameters
        ----------
        nproc
            As for `qnp_xp.load_model`.

        Returns
        -------
        QuasarNP
        """
        return dataclasses.replace(self, nproc=nproc)

    def _upload(self) -> _Weights:
        def move(x: NDArray[np.float64]) -> Array:
            return to_device(x, self.backend, self.dtype)

        net = self.network
        kernel, bias, scale, shift = map(move, net.joined_heads())
        return _Weights(
            convs=[prepare(conv, self.backend, self.dtype) for conv in net.convs],
            trunk=[(move(dense.kernel), move(dense.bias)) for dense in net.trunk],
            heads=(kernel, bias),
            scale=scale,
            shift=shift,
        )

    def predict(self, x: Array) -> list[Array]:
        """Run the network.

        Parameters
        ----------
        x
            Normalised spectra, shape ``(n, nbins)`` or ``(n, nbins, 1)``, real, of any
            array library; n may be 0. Moved to the model's device tile by tile, and
            never changed.

        Returns
        -------
        list of array
            One for each line, in the model's namespace and dtype, shape
            ``(n, 2 * nboxes)``: confidences of the boxes, then offsets within them.

        Raises
        ------
        ValueError, TypeError
            If the shape of `x` is neither of the above, or its numbers are not real.

        Notes
        -----
        Busca & Balland 2018, arXiv:1808.09955, section 3. The bits of a spectrum's
        result depend neither on the other spectra nor on its place among them.
        """
        if not hasattr(x, "shape"):
            x = to_host(x)
        xp = array_namespace(x)
        if not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
            msg = f"predict takes real numbers, got {x.dtype}"
            raise TypeError(msg)
        shape = tuple(x.shape)
        if shape[1:] not in ((self.nbins,), (self.nbins, 1)):
            msg = (
                f"predict takes (n, {self.nbins}) or (n, {self.nbins}, 1), got {shape}"
            )
            raise ValueError(msg)
        n, block = shape[0], self.block
        blocks = [
            x[first : min(first + block, n), ...]
            for first in range(0, max(n, 1), block)
        ]
        if self.backend.is_host:
            done = thread_map(self.forward, blocks, self.threads)
        else:
            done = [self.forward(x) for x in blocks]
        return self.split(self.backend.xp.concat(done, axis=0))

    @property
    def threads(self) -> int:
        """Threads that `predict` takes."""
        return (self.nproc or granted_cores()) if self.backend.is_host else 1

    @property
    def block(self) -> int:
        """Spectra that `predict` hands to a thread at once."""
        return _BLOCK if self.backend.is_host else self.tile

    @property
    def tile(self) -> int:
        """Spectra of one pass through the network."""
        return self._tile.size

    def forward(self, x: Array) -> Array:
        """Run the network on a few spectra, in the thread that calls it.

        Parameters
        ----------
        x
            As for `predict`.

        Returns
        -------
        array
            Outputs of all lines side by side, shape ``(n, nlines * 2 * nboxes)``; see
            `split`.
        """
        with self.backend.active():
            x = layers.flatten(to_device(x, self.backend, self.dtype))
            while True:
                tile = self.tile
                try:
                    return self._forward(x, tile)
                except MemoryError:
                    if tile == 1 or self.backend.is_host:
                        raise
                # Here and not above: the error holds on to the arrays of its frames.
                self.backend.release()
                self._tile.size = min(self.tile, tile // 2)
                _log.warning(
                    "%s: out of memory with %d spectra at a time, going on with %d",
                    self.device, tile, self.tile,
                )  # fmt: skip

    def _forward(self, x: Array, tile: int) -> Array:
        n = x.shape[0]
        if not self.backend.is_host:
            x = fill_rows(x, max(-(-n // tile), 1) * tile)
        x = self.backend.xp.expand_dims(x, axis=2)
        tiles = [
            self._forward_tile(x[first : first + tile, :, :])
            for first in range(0, max(n, 1), tile)
        ]
        return self.backend.xp.concat(tiles, axis=0)[:n, :]

    def split(self, outputs: Array) -> list[Array]:
        """Part the outputs of the lines.

        Parameters
        ----------
        outputs
            As `forward` returns them.

        Returns
        -------
        list of array
            As `predict` returns it.
        """
        width = 2 * self.nboxes
        return [outputs[:, i * width : (i + 1) * width] for i in range(self.nlines)]

    def _forward_tile(self, x: Array) -> Array:
        weights = self._weights
        for conv, convolve in zip(self.network.convs, weights.convs, strict=True):
            x = layers.ACTIVATIONS[conv.activation](convolve(x))
        # A product for each spectrum: BLAS kernels may sum the rows of one product in
        # different orders, and a result would depend on the row that it comes from.
        x = self.backend.xp.expand_dims(layers.flatten(x), axis=1)
        for dense, (kernel, bias) in zip(
            self.network.trunk, weights.trunk, strict=True
        ):
            x = layers.dense(x, kernel, bias, layers.ACTIVATIONS[dense.activation])
        heads = layers.dense(x, *weights.heads, layers.sigmoid)
        return layers.flatten(heads * weights.scale + weights.shift)


def _largest_activation(network: Network) -> int:
    """Numbers that the largest output of a convolution has for one spectrum."""
    length, largest = network.nbins, network.nbins
    for conv in network.convs:
        kernel, _, filters = conv.kernel.shape
        length = layers.conv_output(length, kernel, conv.stride, conv.padding)
        largest = max(largest, length * filters)
    return largest
