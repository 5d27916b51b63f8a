"""The training room: the one place that knows of Keras, PyTorch and ONNX.

Each is imported where it is used, so that the package works without them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._options import Options
from .._validate import Validation, validate
from .._xp.backend import resolve
from ..decode import decode
from ..errors import QnpError
from ..io._truth import Kind, Truth
from ..io.tables import result_columns, table_dtype
from ..model import QuasarNP
from ._examples import Examples, Files
from ._keras import import_keras, keras_network, save_network
from ._plan import Plan, make_plan
from ._settings import Progress, Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What was trained on, and what came of it."""

    plan: Plan
    #: The step whose weights are written.
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
    shift: int = 30,
    use_mask: bool = False,
    coadd: bool = False,
    threads: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    tell: Callable[[list[str]], None] | None = None,
    progress: Progress | None = None,
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
        Largest learning rate; by default 1e-4 with `start`, and 2e-3 without.
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
    tell : callable, optional
        Called with the lines of ``plan.describe()`` before training begins.
    progress : callable, optional
        Called after each step with its number, the number of steps, the running loss,
        and the least loss of what is held out.

    Returns
    -------
    Training
        With the attributes ``plan`` (what was trained on, held out and left out, which
        ``plan.describe()`` says in lines), ``step`` (whose weights are written),
        ``curve`` (step, running loss, loss of what is held out), ``c_thresh``, and
        ``validation`` (what `qnp_xp.validate` finds for the spectra held out, compared
        with `start`). In a dry run there is ``plan`` alone.

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
    >>> print(found.plan.held.describe())  # doctest: +SKIP
    51 spectra of 48 targets: 20 quasars (z 0.52 to 3.39), 19 galaxies, 12 stars
    """
    settings = Settings(
        steps=steps,
        epochs=epochs,
        minutes=np.inf if minutes is None else minutes,
        held=held,
        seed=seed,
        rate=rate,
        batch_size=batch_size,
        noise=noise,
        shift=shift,
        threads=threads,
    )
    plan = make_plan(
        data,
        output,
        settings=settings,
        options=Options(use_mask=use_mask, coadd=coadd),
        start=start,
        negatives=negatives,
        lines=lines,
        lines_bal=lines_bal,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    if tell is not None:
        tell(plan.describe())
    if dry_run:
        return Training(plan)
    return _carry_out(plan, progress or (lambda *_: None))


def _carry_out(
    plan: Plan, progress: Callable[[int, int, float, float], None]
) -> Training:
    """Train, write the network, and say how good it is."""
    import_keras()  # before the training, if it has another backend
    from ._fit import fit  # noqa: PLC0415

    goal, held, path = plan.goal, plan.held, plan.output
    done = fit(plan.examples, held, goal, plan.start, plan.settings, progress)
    if not done.step:
        msg = (
            "no step did better on what is held out than the network that training"
            " began with, and nothing is written; try a smaller rate, more steps or"
            " more spectra"
        )
        raise QnpError(msg)
    grid = (goal.wave, goal.lines, goal.lines_bal)
    host = resolve("cpu", None)
    model = QuasarNP(done.network, *grid, "float32", path.name, "", host)
    found = _decoded(model, held)
    c_thresh = choose_threshold(found["Z_QN_CONF"], held.quasar)
    save_network(
        keras_network(done.network),
        path,
        wave=goal.wave,
        lines=goal.lines,
        lines_bal=goal.lines_bal,
        c_thresh=c_thresh,
        overwrite=plan.overwrite,
    )
    if done.interrupt is not None:
        _log.warning("%s: has the best weights so far, of step %d", path, done.step)
        raise done.interrupt
    validation = _judge(model, found, held, c_thresh)
    if plan.start is not None:
        own = Options().threshold(plan.start.c_thresh).value
        before = _judge(plan.start, _decoded(plan.start, held), held, own)
        validation = replace(validation, other=before)
    return Training(plan, done.step, done.curve, c_thresh, validation)


def _decoded(model: QuasarNP, examples: Examples) -> dict[str, NDArray[Any]]:
    """Give what a network says of examples, by the names of columns."""
    preds = model.predict(examples.normalized())
    found = decode(preds, model.lines, model.lines_bal, model.wave)
    return result_columns(found, model)


def _judge(
    model: QuasarNP,
    columns: dict[str, NDArray[Any]],
    examples: Examples,
    c_thresh: float,
) -> Validation:
    """Compare what a network says with what is known."""
    dtype = table_dtype(model.lines, model.lines_bal, (), fitted=False)
    table = np.zeros(examples.n, dtype)
    table["TARGETID"] = np.arange(examples.n)
    for name, values in columns.items():
        table[name] = values
    table["IS_QSO_QN"] = table["Z_QN_CONF"] > c_thresh
    found = validate(table, _truth_of(examples), c_thresh=c_thresh)
    return replace(found, name=model.weights_name)


def _truth_of(examples: Examples) -> Truth:
    """Give what is known of examples, by their numbers."""
    ids: dict[str, NDArray[Any]] = {"TARGETID": np.arange(examples.n)}
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
