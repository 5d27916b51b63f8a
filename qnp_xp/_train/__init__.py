"""The training room: the one place that knows of Keras, PyTorch and ONNX.

Each is imported where it is used, so that the package works without them.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classify import as_model
from .._data import EMBEDDED_NETWORK, data_file
from .._options import Options
from .._validate import Validation, validate
from .._xp.backend import resolve
from ..decode import decode
from ..errors import QnpError
from ..grids import wave
from ..io._files import ensure_name, ensure_writable
from ..io._truth import Kind, Truth, open_truth
from ..io.tables import result_columns, table_dtype
from ..lines import LINES, LINES_BAL, rest_wavelengths
from ..model import QuasarNP
from ._examples import Examples, Files, hold_out, names_of, read_examples
from ._keras import SUFFIXES, import_keras, keras_network, save_network
from ._settings import Goal, Settings

_log = logging.getLogger(__name__)

#: What names the network that ships with the package, where no file has that name.
BUNDLED = "bundled"


@dataclass(frozen=True)
class Training:
    """What was trained on, and what came of it."""

    #: Spectra that were trained on, and those that were held out.
    examples: Examples
    held: Examples
    #: Why spectra were left out, and how many.
    left_out: dict[str, int]
    #: Batches that are planned, and the one whose weights are written.
    steps: int
    step: int = 0
    #: Columns: step, running loss, loss of what is held out; no rows in a dry run.
    curve: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    #: Confidence above which a line counts, as the file says.
    c_thresh: float | None = None
    #: The new network on what is held out, compared with that which it began with.
    validation: Validation | None = None


def train(
    data: Iterable[tuple[Files, Any]],
    output: str | Path,
    *,
    start: str | Path | None = None,
    negatives: Files = (),
    lines: Sequence[str] | None = None,
    lines_bal: Sequence[str] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    held: float = 0.2,
    seed: int = 0,
    rate: float | None = None,
    batch_size: int = 64,
    noise: float = 3.0,
    shift: int = 10,
    use_mask: bool = False,
    coadd: bool = False,
    threads: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int, float, float], None] | None = None,
) -> Training:
    """Train a network on labelled spectra, or tune one, and write it.

    Parameters
    ----------
    data : iterable of (files, truth)
        Files of spectra as `qnp_xp.classify` takes them, one or a list, and what is
        known of them: a table as `qnp_xp.validate` takes it.
    output : str or pathlib.Path
        File to write, ``.h5`` or ``.keras``.
    start : str or pathlib.Path, optional
        Weights file of the network to begin with, of any kind that `load_model` takes;
        ``"bundled"`` is the network that ships with the package. By default training
        begins with random weights, on QuasarNET's logarithmic grid.
    negatives : files, optional
        Files of spectra of which none is a quasar.
    lines, lines_bal : sequence of str, optional
        Names of the lines of the network, as for `load_model`; by default DESI's, or
        those of `start`.
    steps, epochs : int, float, optional
        Number of batches, or of passes over the spectra; by default 600 batches with
        `start`, and 6000 without.
    minutes : float, optional
        Time after which training ends. Then the network depends on the machine.
    held : float
        Share of the targets that is held out: training ends when it gains nothing more
        for them. All spectra of a target are on one side.
    seed : int
        Of the choice of these, of the order of spectra, and of their noise.
    rate : float, optional
        Largest learning rate; by default 3e-4 with `start`, and 2e-3 without.
    batch_size : int
        Spectra of a batch, half of them quasars.
    noise : float
        The most that the errors of a spectrum are multiplied by, with noise that is
        added; 1 adds none.
    shift : int
        The most bins by which a spectrum is moved to another redshift.
    use_mask, coadd : bool
        As for `qnp_xp.classify`.
    threads : int
        Of PyTorch. Another number may give another network.
    overwrite : bool
        Replace `output` if it is there. The bundled network is never replaced.
    dry_run : bool
        Only read what would be trained on; needs neither Keras nor PyTorch.
    progress : callable, optional
        Called after each step with its number, the number of steps, the running loss,
        and the least loss of what is held out.

    Returns
    -------
    Training
        With the attributes ``examples`` and ``held`` (what was trained on and held
        out; each has ``n`` and ``describe()``), ``left_out`` (numbers of spectra by
        reason), ``steps`` and ``step`` (how many there are, and whose weights are
        written), ``curve`` (step, running loss, loss of what is held out),
        ``c_thresh``, and ``validation`` (what `qnp_xp.validate` finds for the spectra
        held out, compared with `start`). In a dry run the last two are None.

    Raises
    ------
    MissingLibraryError
        If there is no Keras 3 or no PyTorch.
    SpectraError
        If truth and spectra have nothing in common, quasars have no redshift, or there
        are too few quasars or others.
    QnpError
        If no step improved on what training began with. Nothing is written.
    FileNotFoundError, FileExistsError, WeightsError, ValueError, TypeError
        If a file cannot be used, or an argument is none of the above.

    Notes
    -----
    The network, its labels and its loss are those of Busca & Balland 2018,
    arXiv:1808.09955. An interrupt (KeyboardInterrupt) leaves the best network so far in
    `output`, or nothing if there is none better than at the start.

    Examples
    --------
    >>> pairs = [(["coadd-0.fits", "coadd-1.fits"], "truth.csv")]
    >>> found = train(pairs, "mine.h5", start="bundled")  # doctest: +SKIP
    >>> print(found.held.describe())  # doctest: +SKIP
    51 spectra of 48 targets: 20 quasars (z 0.52 to 3.39), 19 galaxies, 12 stars
    """
    settings = Settings(
        steps, epochs, np.inf if minutes is None else minutes, held, seed, rate,
        batch_size, noise, shift, threads,
    )  # fmt: skip
    options = Options(use_mask=use_mask, coadd=coadd)
    pairs = [(files, open_truth(truth)) for files, truth in data]
    path = _ensure_output(output, overwrite, [x for x, _ in pairs], negatives, start)
    if not dry_run:
        _ensure_installed()
    model = None if start is None else _start(start, lines, lines_bal)
    goal = _goal(model, lines, lines_bal)
    found = read_examples(pairs, negatives, goal.wave, options)
    out = hold_out(found, settings.held, settings.seed)
    examples, rest = found.take(~out), found.take(out)
    count = settings.count_steps(examples.n, model is not None)
    if dry_run:
        return Training(examples, rest, found.left_out, count)
    from ._fit import fit  # noqa: PLC0415

    follow = progress or (lambda *_: None)
    done = fit(examples, rest, goal, model, settings, follow)
    if not done.step:
        msg = (
            "no step did better on what is held out than the network that training"
            " began with, and nothing is written; try a smaller rate, more steps or"
            " more spectra"
        )
        raise QnpError(msg)
    trained = QuasarNP(
        done.network, goal.wave, goal.lines, goal.lines_bal, "float32", path.name, "",
        resolve("cpu", None),
    )  # fmt: skip
    table = _results(trained, rest)
    c_thresh = choose_threshold(table["Z_QN_CONF"], rest.quasar)
    save_network(
        keras_network(done.network),
        path,
        wave=goal.wave,
        lines=goal.lines,
        lines_bal=goal.lines_bal,
        c_thresh=c_thresh,
        overwrite=overwrite,
    )
    if done.interrupt is not None:
        _log.warning("%s: has the best weights so far, of step %d", path, done.step)
        raise done.interrupt
    validation = validate(
        table,
        _truth_of(rest),
        other=None if model is None else _results(model, rest),
        c_thresh=c_thresh,
    )
    plan = (examples, rest, found.left_out, count)
    return Training(*plan, done.step, done.curve, c_thresh, validation)


def _ensure_output(
    output: str | Path,
    overwrite: bool,
    data: Iterable[Files],
    negatives: Files,
    start: str | Path | None,
) -> Path:
    """Refuse an output that cannot be written, or that is an input."""
    ensure_name(output, "output")
    path = Path(output)
    if path.suffix not in SUFFIXES:
        msg = f"{path}: weights are written to {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    inputs = [data_file(EMBEDDED_NETWORK)]
    inputs += map(Path, itertools.chain(*map(names_of, [*data, negatives])))
    if start is not None:
        inputs.append(Path(start))
    ensure_writable(path, overwrite, inputs)
    return path


def _ensure_installed() -> None:
    """Refuse early, and without the seconds that importing them takes."""
    if not all(map(importlib.util.find_spec, ("keras", "torch"))):
        import_keras()


def _start(
    start: str | Path, lines: Sequence[str] | None, lines_bal: Sequence[str] | None
) -> QuasarNP:
    """Load the network that training begins with."""
    ensure_name(start, "start")
    path = Path(start)
    if str(start) == BUNDLED and not path.exists():
        path = data_file(EMBEDDED_NETWORK)
    return as_model(path, lines=lines, lines_bal=lines_bal)


def _goal(
    model: QuasarNP | None, lines: Sequence[str] | None, lines_bal: Sequence[str] | None
) -> Goal:
    """Say which grid and lines the network is to have."""
    if model is not None:
        return Goal(model.wave, model.lines, model.lines_bal)
    goal = Goal(
        np.asarray(wave),
        tuple(LINES if lines is None else lines),
        tuple(LINES_BAL if lines is None and lines_bal is None else lines_bal or ()),
    )
    rest_wavelengths([*goal.lines, *goal.lines_bal])
    if not goal.lines:
        msg = "lines are empty, and quasars are found by emission lines"
        raise ValueError(msg)
    return goal


def _results(model: QuasarNP, examples: Examples) -> NDArray[Any]:
    """Make the table of results of examples, which their numbers stand for."""
    preds = model.predict(examples.normalized())
    found = decode(preds, model.lines, model.lines_bal, model.wave)
    table = np.zeros(examples.n, table_dtype(model.lines, model.lines_bal, ()))
    table["TARGETID"] = np.arange(examples.n)
    for name, values in result_columns(found, model).items():
        table[name] = values
    return table


def _truth_of(examples: Examples) -> Truth:
    """Give what is known of examples, by their numbers."""
    ids = {"TARGETID": np.arange(examples.n)}
    # Of negatives it is not known what they are, but what they are not.
    kind = np.where(examples.kind == int(Kind.UNKNOWN), int(Kind.GALAXY), examples.kind)
    sure = np.ones(examples.n, dtype=bool)
    kind = kind.astype(np.int8)
    return Truth("what is held out", ids, examples.z, kind, examples.bal, sure)


def choose_threshold(confidence: NDArray[Any], quasar: NDArray[np.bool_]) -> float:
    """Choose the threshold that makes the fewest mistakes, the middle of the best ones.

    Missed quasars count as a share of quasars, and others taken for one as a share of
    others, so that it does not depend on how many of each there are.
    """
    edges = np.unique([0.0, *confidence.tolist(), 1.0])
    missed = np.searchsorted(np.sort(confidence[quasar]), edges[:-1], "right")
    others = np.sort(confidence[~quasar])
    taken = others.size - np.searchsorted(others, edges[:-1], "right")
    mistakes = missed / max(int(quasar.sum()), 1) + taken / max(others.size, 1)
    best = np.flatnonzero(mistakes <= mistakes.min() + 1e-12)
    widest = best[np.argmax(np.diff(edges)[best])]
    return float(edges[widest] + edges[widest + 1]) / 2
