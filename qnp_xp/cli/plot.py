"""The command ``qnp-xp plot``."""

from __future__ import annotations

import argparse
import collections
import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import plot as pictures
from .._classify import as_model, classify_source
from .._options import Options
from ..batch._console import say
from ..errors import NoSpectraError
from ..io._files import atomic_write, ensure_writable
from ..io.open import one_group, open_group, stem
from ..io.source import Source
from ..io.weights import weights_path
from ..plot._draw import draw_spectrum
from ..plot._views import rows_of_targets, views
from ..selection import check_indices
from ._lists import id_list, name_list, row_list

__all__ = ["add_plot"]

_MOST = 20  # pictures that nobody asked for one by one
_SUFFIXES = (".png", ".pdf")


def add_plot(commands: Any) -> None:
    """Add the subcommand to a parser.

    Parameters
    ----------
    commands
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    p = commands.add_parser(
        "plot",
        help="draw spectra and what the network says of them",
        description="Draw the quasars of FILE, or other spectra of it. Several make"
        " the pages of a PDF file, or a PNG file each. Needs matplotlib, which"
        " pip install 'qnp-xp[plot]' brings.",
    )
    add = p.add_argument
    add("file", metavar="FILE", help="whatever classify takes; with --summary, a table"
        " of classify or merge")  # fmt: skip
    add("--summary", action="store_true", help="draw redshifts, confidences and lines"
        " of the quasars of a table instead")  # fmt: skip
    add("-m", "--model", metavar="WEIGHTS", help="weights file ($QN_MODEL_FILE,"
        " else the network that ships with the package)")  # fmt: skip
    add("-o", "--output", metavar="OUT", help="picture to write, .png or .pdf"
        " (plot-FILE.png for one spectrum, plot-FILE.pdf for several)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace older pictures")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--targetids", "--targetid", metavar="T", nargs="+",
        help="TARGETIDs: 1 2 3, or 1,2,3, or @FILE with one a line (the quasars, at"
        f" most {_MOST}, or the first row where there is none)")  # fmt: skip
    which.add_argument("--rows", type=row_list, help="row numbers from 0: 0,3,5-9")
    add("--smooth", metavar="N", type=float, default=5, help="pixels by which the line"
        " over the pixels is smoothed (%(default)s)")  # fmt: skip
    add("--use-mask", action="store_true", help="leave out pixels whose MASK is set")
    add("--c-thresh", type=float, help="confidence of a line (0.5, or that of the"
        " table)")  # fmt: skip
    add(
        "--n-thresh", type=int, default=1, help="lines that make a quasar (%(default)s)"
    )
    add("--lines", type=name_list, help="emission lines of the network's outputs, as"
        " for classify")  # fmt: skip
    add("--lines-bal", type=name_list, help="BAL lines of its other outputs")
    p.set_defaults(run=functools.partial(_plot, p))


def _plot(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if args.summary and (args.targetids is not None or args.rows is not None):
        parser.error("--summary draws a whole table: no --rows, no --targetids")
    if args.output and Path(args.output).suffix.lower() not in _SUFFIXES:
        parser.error(f"-o {args.output}: pictures end in .png or .pdf")
    # Before any work: matplotlib may be missing, or the folder.
    pictures.new_figure()
    if args.output:
        ensure_writable(Path(args.output), overwrite=True)
    return _plot_table(args) if args.summary else _plot_spectra(args)


def _plot_table(args: argparse.Namespace) -> int:
    path = Path(args.output or f"plot-{stem([Path(args.file)])}.png")
    _check([path], [args.file], args.overwrite)
    axes = pictures.summary(args.file, c_thresh=args.c_thresh)
    _write(path, [axes[0].figure])
    say(f"{args.file} -> {path}")
    return 0


def _plot_spectra(args: argparse.Namespace) -> int:
    group = one_group(args.file)
    if group is None:
        msg = f"{args.file}: no file"
        raise ValueError(msg)
    targetids = None
    if args.targetids is not None:
        targetids = np.concatenate([id_list(text) for text in args.targetids])
    c_thresh = 0.5 if args.c_thresh is None else args.c_thresh
    options = Options(c_thresh, args.n_thresh, args.use_mask)
    model = as_model(args.model, lines=args.lines, lines_bal=args.lines_bal)
    try:
        opened = open_group(group)
    except NoSpectraError as err:
        msg = f"{err}; --summary draws a table of classify or merge"
        raise NoSpectraError(msg) from err
    with opened as source:
        numbers, remark = _asked(source, args.rows, targetids), ""
        result = classify_source(
            source, model, options, indices=numbers, keep_boxes=True
        )
        if numbers is None:
            numbers, remark = _by_default(result.table)
            boxes: Any = result.boxes
            result = replace(result, table=result.table[numbers], boxes=boxes[numbers])
        suffix = ".png" if numbers.size == 1 else ".pdf"
        output = Path(args.output or f"plot-{stem(group)}{suffix}")
        paths = [output]
        if output.suffix.lower() == ".png" and numbers.size > 1:
            paths = [output.with_stem(f"{output.stem}-{n}") for n in
                _labels(source, numbers)]  # fmt: skip
        _check(paths, [*group, weights_path(args.model)], args.overwrite)
        figures = (
            draw_spectrum(view, pictures.new_figure(), physical=True)[0].figure
            for view in views(source, result, numbers, model, options, args.smooth)
        )
        if len(paths) == 1:
            _write(output, figures)
        else:
            for path, figure in zip(paths, figures, strict=True):
                _write(path, [figure])
    written = str(paths[0])
    if len(paths) > 1:
        written = f"{paths[0]} ... {paths[-1].name}"
    spectra = f"{numbers.size} spectr{'um' if numbers.size == 1 else 'a'}"
    say(f"{args.file}: {spectra}{remark} -> {written}")
    return 0


def _asked(
    source: Source,
    rows: NDArray[np.int64] | None,
    targetids: NDArray[np.int64] | None,
) -> NDArray[np.int64] | None:
    """The rows that were asked for, each of them once."""
    if source.n == 0:
        msg = f"{source.name}: holds no spectra"
        raise ValueError(msg)
    if targetids is not None:
        return rows_of_targets(source, targetids)
    if rows is None:
        return None
    numbers = check_indices(rows, source.n, "rows")
    return np.asarray(list(dict.fromkeys(numbers.tolist())), dtype=np.int64)


def _by_default(table: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Rows that are drawn unasked, and what is to be said of them."""
    quasars = np.flatnonzero(table["IS_QSO_QN"] == 1).astype(np.int64)
    if not quasars.size:
        return np.zeros(1, dtype=np.int64), " (the first: there is no quasar)"
    if quasars.size > _MOST:
        return quasars[:_MOST], f" (the first of {quasars.size} quasars)"
    return quasars, " (all quasars)" if quasars.size > 1 else " (the only quasar)"


def _labels(source: Source, numbers: NDArray[np.int64]) -> list[str]:
    """What tells the files of several spectra apart: targets, if these are known."""
    known = source.identifiers.get("TARGETID", np.full(source.n, -1))[numbers]
    count = collections.Counter(known.tolist())
    labels = []
    for number, target in zip(numbers.tolist(), known.tolist(), strict=True):
        label = f"row{number}" if target == -1 else str(target)
        repeated = target != -1 and count[target] > 1
        labels.append(f"{label}-row{number}" if repeated else label)
    return labels


def _check(paths: Sequence[Path], inputs: Sequence[Any], overwrite: bool) -> None:
    for path in paths:
        ensure_writable(path, overwrite, inputs)


def _write(path: Path, figures: Iterable[Any]) -> None:
    if path.suffix.lower() == ".pdf":
        atomic_write(path, pictures.pdf(figures))
        return
    (figure,) = figures
    atomic_write(path, pictures.png(figure))
