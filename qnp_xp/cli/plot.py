"""Draw the quasars of FILE, or other spectra of it.

Several make the pages of a PDF file, or a PNG file each. Needs matplotlib, which
pip install '.[plot]' brings in a checkout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classify import as_model, classify_source
from .._options import Options
from ..batch.report import say
from ..errors import NoSpectraError
from ..io._files import atomic_write, ensure_apart, ensure_writable
from ..io.open import one_group, open_group, stem
from ..io.source import Source
from ..io.weights import weights_path
from ..plot import new_figure, pdf, png, summary
from ..plot._draw import draw_spectrum
from ..plot._views import views
from ..selection import check_indices, target_indices
from . import _shared
from ._shared import adder

_MOST = 20  # pictures that nobody asked for one by one


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    meaning = "whatever classify takes; with --summary, a table of classify or merge"
    add("file FILE", meaning)
    meaning = "draw redshifts, confidences and lines of the quasars of a table instead"
    add("--summary", meaning)
    _shared.add_model(add)
    add(
        "-o --output OUT",
        "picture to write, .png or .pdf (plot-FILE.png for one spectrum, plot-FILE.pdf"
        " for several)",
    )
    add("--overwrite", "replace older pictures")
    add_either = adder(p.add_mutually_exclusive_group())
    add_either(
        "--targetids --targetid T",
        "TARGETIDs: 1 2 3, or 1,2,3, or @FILE with one a line (the quasars, at most"
        f" {_MOST}, or the first row where there is none)",
        nargs="+",
    )
    add_either(*_shared.ROWS, type=_shared.row_list)
    meaning = "pixels by which the line over the pixels is smoothed (%(default)s)"
    add("--smooth N", meaning, type=float, default=5)
    meaning = (
        "draw also which bins the confidence of a line rests on: LYA, CIV, ..., BAL_CIV"
        " (needs PyTorch or JAX)"
    )
    add("--saliency LINE", meaning)
    _shared.add_thresholds(add, "; that of the table with --summary")
    _shared.add_lines(add)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.summary and (args.targetids is not None or args.rows is not None):
        args.parser.error("--summary draws a whole table: no --rows, no --targetids")
    if args.summary and args.saliency is not None:
        args.parser.error("--summary draws a whole table: no --saliency")
    if args.output and Path(args.output).suffix.lower() not in (".png", ".pdf"):
        args.parser.error(f"-o {args.output}: pictures end in .png or .pdf")
    # Before any work: matplotlib may be missing, or the folder.
    new_figure()
    if args.output:
        ensure_writable(Path(args.output), overwrite=True)
    if args.summary:
        path = Path(args.output or f"plot-{stem([Path(args.file)])}.png")
        ensure_writable(path, args.overwrite, [args.file])
        axes = summary(args.file, c_thresh=args.c_thresh)
        _write(path, [axes[0].figure])
        say(f"{args.file} -> {path}")
    else:
        _plot_spectra(args)
    return 0


def _plot_spectra(args: argparse.Namespace) -> None:
    group = one_group(args.file) or ()
    options = Options(args.c_thresh, args.n_thresh, args.use_mask)
    model = as_model(args.model, lines=args.lines, lines_bal=args.lines_bal)
    try:
        opened = open_group(group)
    except NoSpectraError as err:
        msg = f"{err}; --summary draws a table of classify or merge"
        raise NoSpectraError(msg) from err
    with opened as source:
        indices, remark = _asked(source, args), ""
        result = classify_source(
            source, model, options, indices=indices, keep_boxes=True
        )
        if indices is None:
            indices, remark = _by_default(result.table)
            result = result.take(indices)
        suffix = ".png" if indices.size == 1 else ".pdf"
        output = Path(args.output or f"plot-{stem(group)}{suffix}")
        paths = [output]
        if output.suffix.lower() == ".png" and indices.size > 1:
            labels = _labels(source, indices)
            paths = [output.with_stem(f"{output.stem}-{label}") for label in labels]
        ensure_apart(paths)
        for path in paths:
            ensure_writable(path, args.overwrite, [*group, weights_path(args.model)])
        settings = (model, options, args.smooth, args.saliency)
        figures = (
            draw_spectrum(view, new_figure(), physical=True)[0].figure
            for view in views(source, result, indices, *settings)
        )
        pages = [figures] if len(paths) == 1 else ([figure] for figure in figures)
        for path, page in zip(paths, pages, strict=True):
            _write(path, page)
    written = f"{paths[0]} ... {paths[-1].name}" if len(paths) > 1 else paths[0]
    spectra = f"{indices.size} spectr{'um' if indices.size == 1 else 'a'}"
    say(f"{args.file}: {spectra}{remark} -> {written}")


def _asked(source: Source, args: argparse.Namespace) -> NDArray[np.int64] | None:
    """Find the rows that were asked for, each of them once."""
    if source.n == 0:
        msg = f"{source.name}: holds no spectra"
        raise ValueError(msg)
    if args.targetids is not None:
        targetids = np.concatenate([_shared.id_list(text) for text in args.targetids])
        known = source.identifiers.get("TARGETID")
        return target_indices(targetids, known, source.name, all_known=True)
    if args.rows is None:
        return None
    indices = check_indices(args.rows, source.n, "rows")
    return np.asarray(list(dict.fromkeys(indices.tolist())), dtype=np.int64)


def _by_default(table: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Choose rows that are drawn unasked, and what is to be said of them."""
    quasars = np.flatnonzero(table["IS_QSO_QN"] == 1).astype(np.int64)
    if not quasars.size:
        return np.zeros(1, dtype=np.int64), " (the first: there is no quasar)"
    if quasars.size > _MOST:
        return quasars[:_MOST], f" (the first of {quasars.size} quasars)"
    return quasars, " (all quasars)" if quasars.size > 1 else " (the only quasar)"


def _labels(source: Source, indices: NDArray[np.int64]) -> list[str]:
    """Tell the files of several spectra apart, by target where that is enough."""
    known = source.identifiers.get("TARGETID", np.full(source.n, -1))
    targets = known[indices].tolist()
    labels = []
    for index, target in zip(indices.tolist(), targets, strict=True):
        parts = [] if target == -1 else [str(target)]
        if target == -1 or targets.count(target) > 1:
            parts.append(f"row{index}")
        labels.append("-".join(parts))
    return labels


def _write(path: Path, figures: Iterable[Any]) -> None:
    content = pdf(figures) if path.suffix.lower() == ".pdf" else png(*figures)
    atomic_write(path, content)
