"""The network on a device."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import layers
from ._binning import Rebinner
from ._network.description import Network
from ._network.facts import as_html
from ._network.plain import PlainNetwork
from ._xp.backend import Array, Backend, real_floating, resolve, to_device, to_host
from ._xp.libraries import is_out_of_memory
from ._xp.threads import granted_cores, thread_map
from .errors import DeviceError, MissingLibraryError

__all__ = ["QuasarNP"]

# Spectra of one pass through the network. On a CPU the arrays of a tile stay in the
# cache, a thread takes a block, and each spectrum has its own products, so that its
# bits depend on no other. On a device each operation costs the same time to begin,
# however many spectra it is for.
_TILE = 16
_BLOCK = 32
_TILE_ON_DEVICE = 1024

# A tile may take this part of the memory that is free when a model is loaded. Of the
# largest activation there are some eight at a time: what goes into a convolution and
# comes out of it, both transformed, and what is on its way to the next.
_PART_OF_MEMORY = 4
_LIVE = 8

_log = logging.getLogger(__name__)


class QuasarNP:
    """A trained QuasarNET that predicts on the device it was loaded on.

    Made by `qnp_xp.load_model`. It also unpacks as ``model, grid = load_model(path)``,
    which is what QuasarNP 0.2 returned and desispec calls: so ``len()`` is 2, and
    ``load_model(path)[0]`` is the model.

    Attributes
    ----------
    network : Network
        Layers and folded weights on the host.
    wave : numpy.ndarray of float64, shape (nbins,)
        Grid of the network in Angstrom.
    lines, lines_bal : tuple of str
        Names of the emission lines and of the broad absorption lines, in the order of
        the outputs.
    dtype : {"float32", "float64"}
        What the network computes in.
    weights_name, weights_sha256 : str
        Name of the file and SHA-256 of its bytes.
    backend : Backend
        Array library and device.
    c_thresh : float or None
        Confidence above which a line of this network counts, as its file says.
    nproc : int or None
        Threads to predict with on a CPU; None for ``$OMP_NUM_THREADS``, or the cores
        that the process was granted. Results do not depend on it.
    compiled : bool
        Whether LLVM has compiled it; both give the same to some 1e-6.
    rebinner : callable
        `qnp_xp.spectra.sum_arms` onto `wave`, for arrays on the model's device.
    tile : int
        Spectra of one pass through the network; halved where a GPU's memory runs out.

    Examples
    --------
    >>> from qnp_xp import load_model
    >>> model, grid = load_model()  # the network that ships with the package
    >>> preds = model.predict(np.zeros((5, grid.size)))
    >>> len(preds), preds[0].shape
    (7, (5, 26))
    """

    def __init__(
        self,
        network: Network,
        wave: NDArray[np.float64],
        lines: tuple[str, ...],
        lines_bal: tuple[str, ...],
        dtype: str,
        weights_name: str,
        weights_sha256: str,
        backend: Backend,
        nproc: int | None = None,
        compiled: bool | None = None,
        c_thresh: float | None = None,
    ) -> None:
        _check(dtype, nproc, backend)
        self.network = network
        self.wave = wave
        self.lines = lines
        self.lines_bal = lines_bal
        self.dtype = dtype
        self.weights_name = weights_name
        self.weights_sha256 = weights_sha256
        self.backend = backend
        self.nproc = nproc
        self.c_thresh = c_thresh
        self.compiled = _compiles(compiled, dtype, backend)
        self.rebinner = Rebinner(wave, backend, compiled=self.compiled)
        self.tile = _first_tile(network, dtype, backend)
        self._layers: Callable[[Array], Array]
        if self.compiled:
            from ._network.compiled import CompiledNetwork  # noqa: PLC0415

            self._layers = CompiledNetwork(network)
        else:
            self._layers = PlainNetwork(network, backend, dtype)
        backend.settle()  # the weights are there, whichever thread asks for them

    def __reduce__(self) -> tuple[Callable[[], QuasarNP], tuple[()]]:
        # Arrays of a device stay there; they are made again from the host's.
        return self.recipe(), ()

    def __replace__(self, **changes: Any) -> QuasarNP:
        return self.recipe(**changes)()

    def recipe(self, **changes: Any) -> Callable[[], QuasarNP]:
        """Say how to make this model, or one that differs, perhaps elsewhere."""
        if self.compiled and {"backend", "dtype"} & changes.keys():
            changes.setdefault("compiled", None)  # where it can be there
        made = ("rebinner", "tile", "_layers")
        arguments = {name: x for name, x in vars(self).items() if name not in made}
        return functools.partial(QuasarNP, **{**arguments, **changes})

    def __repr__(self) -> str:
        return f"<QuasarNP {self.weights_name}, {self.dtype} on {self.device}>"

    _repr_html_ = as_html

    def __iter__(self) -> Iterator[Any]:
        return iter((self, self.wave))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return (self, self.wave)[index]

    def __call__(self, x: Array) -> list[Array]:
        """Run the network, as `predict` does and Keras' models do."""
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

    @property
    def threads(self) -> int:
        """Threads that `predict` takes."""
        return (self.nproc or granted_cores()) if self.backend.is_host else 1

    @property
    def block(self) -> int:
        """Spectra that `predict` hands to a thread at once."""
        return _BLOCK if self.backend.is_host else self.tile

    def to(
        self, device: Any, *, xp: Any = None, compiled: bool | None = None
    ) -> QuasarNP:
        """Copy this model to another device.

        Parameters
        ----------
        device, xp, compiled : as for `qnp_xp.load_model`

        Returns
        -------
        QuasarNP
        """
        return self.__replace__(backend=resolve(device, xp), compiled=compiled)

    def with_nproc(self, nproc: int) -> QuasarNP:
        """Copy this model, to predict with another number of threads."""
        return self.__replace__(nproc=nproc)

    def predict(self, x: Array) -> list[Array]:
        """Run the network.

        Parameters
        ----------
        x : array, shape (n, nbins) or (n, nbins, 1)
            Normalised spectra of any array library; n may be 0. Moved to the model's
            device tile by tile, and never changed.

        Returns
        -------
        list of array, shape (n, 2 * nboxes)
            One for each line, in the model's namespace and dtype: confidences of the
            boxes, then offsets within them.

        Raises
        ------
        ValueError
            If the shape of `x` is neither of the above.
        TypeError
            If its numbers are not real.

        Notes
        -----
        Busca & Balland 2018, arXiv:1808.09955, section 3. The bits of a spectrum's
        result depend neither on the other spectra nor on its place among them on a
        CPU; on other devices, results agree to some 1e-6.
        """
        (x,) = real_floating(x=x if hasattr(x, "shape") else to_host(x))
        shape = tuple(x.shape)
        if shape[1:] not in ((self.nbins,), (self.nbins, 1)):
            wanted = f"(n, {self.nbins}) or (n, {self.nbins}, 1)"
            msg = f"predict takes {wanted}, got {shape}"
            raise ValueError(msg)
        n, block = shape[0], self.block
        starts = range(0, max(n, 1), block)
        blocks = [x[first : min(first + block, n), ...] for first in starts]
        if self.backend.is_host:
            done = thread_map(self.forward, blocks, self.threads)
        else:
            done = [self.forward(x) for x in blocks]
        return self.split(self.backend.xp.concat(done, axis=0))

    def forward(self, x: Array) -> Array:
        """Run the network on a few spectra, in the thread that calls it.

        Parameters
        ----------
        x : array
            As for `predict`.

        Returns
        -------
        array, shape (n, nlines * 2 * nboxes)
            Outputs of all lines side by side; see `split`.
        """
        # What is not finite is found in the outputs, and numpy need not warn of it; but
        # torch.compile cannot trace what tells it so.
        traced = self.backend.name == "torch"
        quiet = nullcontext() if traced else np.errstate(all="ignore")
        with self.backend.active(), quiet:
            x = layers.flatten(to_device(x, self.backend, self.dtype))
            while True:
                tile = min(self.tile, max(x.shape[0], 1))
                try:
                    return self._forward(x, tile)
                except (MemoryError, RuntimeError) as err:
                    last = tile == 1 or self.backend.is_host
                    if last or not is_out_of_memory(err):
                        raise
                # Here and not above: the error holds on to the arrays of its frames.
                self.backend.release()
                self.tile = min(self.tile, tile // 2)
                text = "%s: out of memory with %d spectra at a time, going on with %d"
                _log.warning(text, self.device, tile, self.tile)

    def split(self, outputs: Array) -> list[Array]:
        """Part what `forward` returns into what `predict` returns."""
        width = 2 * self.nboxes
        return [outputs[:, i * width : (i + 1) * width] for i in range(self.nlines)]

    def _forward(self, x: Array, tile: int) -> Array:
        """Run the network tile by tile."""
        n = x.shape[0]
        starts = range(0, max(n, 1), tile)
        tiles = [self._forward_tile(x[i : min(i + tile, n), :]) for i in starts]
        return tiles[0] if len(tiles) == 1 else self.backend.xp.concat(tiles, axis=0)

    def _forward_tile(self, x: Array) -> Array:
        """Run the network on one tile."""
        return self._layers(x)


def _check(dtype: Any, nproc: Any, backend: Backend) -> None:
    """Refuse what a user may have said of a model in error."""
    if not isinstance(dtype, str) or dtype not in ("float32", "float64"):
        msg = f"dtype={dtype!r} is not one of 'float32', 'float64'"
        raise ValueError(msg)
    if dtype == "float64" and not backend.has_float64:
        msg = (
            f"dtype='float64', which {backend.name} lacks on {backend.device}; JAX has"
            " it after jax.config.update('jax_enable_x64', True)"
        )
        raise DeviceError(msg)
    if nproc is not None:
        if not isinstance(nproc, (int, np.integer)):
            msg = f"nproc must be a whole number, got {nproc!r}"
            raise TypeError(msg)
        if nproc < 1:
            msg = f"nproc must be 1 or more, got {nproc!r}"
            raise ValueError(msg)


def _compiles(compiled: Any, dtype: str, backend: Backend) -> bool:
    """Decide whether LLVM compiles the network: where it can, unless a user says."""
    if compiled not in (None, True, False):
        msg = f"compiled must be True, False or None, got {compiled!r}"
        raise TypeError(msg)
    fits = backend.is_host and dtype == "float32"
    if compiled and not fits:
        msg = f"compiled=True takes float32 on a CPU, not {dtype} on {backend.name}"
        raise DeviceError(msg)
    if compiled is False or not fits:
        return False
    try:
        from ._network import compiled as _  # noqa: F401, PLC0415
    except ImportError as err:
        if compiled:
            how = "the extra 'fast' brings: pip install '.[fast]' in a checkout"
            msg = f"compiled=True needs llvmlite, which {how}. Python says: {err}"
            raise MissingLibraryError(msg) from err
        return False
    return True


def _first_tile(network: Network, dtype: str, backend: Backend) -> int:
    """Choose a tile that fits into the memory of a device."""
    if backend.is_host:
        return _TILE
    tile, free = _TILE_ON_DEVICE, backend.free_memory()
    if free is not None:
        width = 8 if dtype == "float64" else 4
        need = _LIVE * width * network.largest_activation
        while tile > 1 and tile * need > free / _PART_OF_MEMORY:
            tile //= 2
    return tile
