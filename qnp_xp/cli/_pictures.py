"""Choose what `qnp-xp plot` draws, and draw it."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classify import Result, as_model, classify_source
from .._options import Options
from .._printing import complain, note, say
from ..errors import USER_ERRORS, NoSpectraError
from ..io._files import atomic_write, ensure_apart, ensure_writable
from ..io.open import group_inputs, joint_name, open_group, read_lists, stem
from ..io.source import Source
from ..io.weights import weights_path
from ..model import QuasarNP
from ..plot import new_figure, pdf, png, summary
from ..plot._draw import draw_spectrum
from ..plot._views import views
from ..selection import check_indices, target_indices
from . import _shared


@dataclass(frozen=True)
class _Chosen:
    """Rows of a file that are drawn, and what was found of them."""

    group: tuple[Path, ...]
    indices: NDArray[np.int64]
    result: Result

    def take(self, rows: NDArray[np.int64]) -> _Chosen:
        """Keep some of the rows."""
        return _Chosen(self.group, self.indices[rows], self.result.take(rows))


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.summary and (args.targetids is not None or args.rows is not None):
        args.parser.error("--summary draws a whole table: no --rows, no --targetids")
    if args.summary and args.saliency is not None:
        args.parser.error("--summary draws a whole table: no --saliency")
    if args.summary and len(args.files) > 1:
        args.parser.error("--summary draws one table, and merge makes one of several")
    if args.output and Path(args.output).suffix.lower() not in (".png", ".pdf"):
        args.parser.error(f"-o {args.output}: pictures end in .png or .pdf")
    # Before any work: matplotlib may be missing, or the folder.
    new_figure()
    if args.output:
        ensure_writable(Path(args.output), overwrite=True)
    return _plot_summary(args) if args.summary else _plot_spectra(args)


def _plot_summary(args: argparse.Namespace) -> int:
    file = args.files[0]
    path = Path(args.output or f"plot-{stem([Path(file)])}.png")
    ensure_writable(path, args.overwrite, [file])
    axes = summary(file, c_thresh=args.c_thresh)
    _write(path, [axes[0].figure])
    say(f"{file} -> {path}")
    return 0


def _plot_spectra(args: argparse.Namespace) -> int:
    groups = group_inputs(read_lists(args.files))
    lists = [name[1:] for name in args.files if name.startswith("@")]
    options = Options(args.c_thresh, args.n_thresh, args.use_mask)
    model = as_model(args.model, lines=args.lines, lines_bal=args.lines_bal)
    found: list[_Chosen] = []
    first, failed = None, 0
    for group in groups:
        try:
            found.append(_classify(group, model, options, args))
        except USER_ERRORS as err:
            first = first or err
            if len(groups) == 1:
                raise
            if isinstance(err, NoSpectraError):  # of a wildcard
                note(f"skipped: {err}")
            else:  # the others are drawn
                failed += 1
                complain(err)
    if not found and first:
        raise first
    chosen, remark = _chosen(found, args)
    count = sum(one.indices.size for one in chosen)
    name = stem(groups[0] if len(groups) == 1 else chosen[0].group)
    if len(groups) > 1 and count > 1:
        name = "spectra"
    output = Path(args.output or f"plot-{name}{'.png' if count == 1 else '.pdf'}")
    paths = [output]
    if output.suffix.lower() == ".png" and count > 1:
        labels = _labels(chosen)
        paths = [output.with_stem(f"{output.stem}-{label}") for label in labels]
    ensure_apart(paths)
    inputs = [*lists, weights_path(args.model), *(x for group in groups for x in group)]
    for path in paths:
        ensure_writable(path, args.overwrite, inputs)
    figures = _figures(chosen, model, options, args)
    pages = [figures] if len(paths) == 1 else ([figure] for figure in figures)
    for path, page in zip(paths, pages, strict=True):
        _write(path, page)
    written = f"{paths[0]} ... {paths[-1].name}" if len(paths) > 1 else paths[0]
    spectra = f"{count} spectr{'um' if count == 1 else 'a'}{remark}"
    where = args.files[0] if len(groups) == 1 else f"{len(groups)} files"
    say(f"{where}{f', {failed} failed' if failed else ''}: {spectra} -> {written}")
    return int(failed > 0)


def _classify(
    group: tuple[Path, ...], model: QuasarNP, options: Options, args: argparse.Namespace
) -> _Chosen:
    """Find what is said of the rows of a file that may be drawn."""
    try:
        opened = open_group(group)
    except NoSpectraError as err:
        msg = f"{err}; --summary draws a table of classify or merge"
        raise NoSpectraError(msg) from err
    with opened as source:
        indices = _asked(source, args)
        result = classify_source(
            source, model, options, indices=indices, keep_boxes=True
        )
    if indices is not None:
        return _Chosen(group, indices, result)
    # Boxes of other rows would fill the memory.
    every = _Chosen(group, np.arange(result.table.size, dtype=np.int64), result)
    return every.take(_by_default(result.table))


def _figures(
    chosen: Iterable[_Chosen], model: QuasarNP, options: Options, args: Any
) -> Iterator[Any]:
    """Draw the spectra, each when it is asked for."""
    for one in chosen:
        with open_group(one.group) as source:
            settings = (model, options, args.smooth, args.saliency)
            for view in views(source, one.result, one.indices, *settings):
                yield draw_spectrum(view, new_figure(), physical=True)[0].figure


def _asked(source: Source, args: argparse.Namespace) -> NDArray[np.int64] | None:
    """Find the rows that were asked for, each of them once."""
    if source.n == 0:
        msg = f"{source.name}: holds no spectra"
        raise ValueError(msg)
    targetids = _shared.all_ids(args.targetids)
    if targetids is not None:
        known = source.identifiers.get("TARGETID")
        # Those of several files are looked for in all of them.
        return target_indices(targetids, known, source.name)
    if args.rows is None:
        return None
    indices = check_indices(args.rows, source.n, "rows")
    return np.asarray(list(dict.fromkeys(indices.tolist())), dtype=np.int64)


def _by_default(table: NDArray[Any]) -> NDArray[np.int64]:
    """Choose rows of a file that are drawn unasked: quasars, else the most confident.

    It is the first row where none has a confidence.
    """
    quasars = np.flatnonzero(table["IS_QSO_QN"] == 1)
    if not quasars.size:
        quasars = np.argsort(-table["Z_QN_CONF"], kind="stable")[:1]
    return quasars.astype(np.int64)


def _chosen(
    found: Sequence[_Chosen], args: argparse.Namespace
) -> tuple[list[_Chosen], str]:
    """Choose what is drawn of all files, and what is to be said of that."""
    if args.targetids is not None or args.rows is not None:
        _ensure_all_known(found, _shared.all_ids(args.targetids))
        return [one for one in found if one.indices.size], ""
    with_quasars = [one for one in found if one.result.quasars]
    total = sum(one.indices.size for one in with_quasars)
    if not total:
        confidence = [float(one.result.table["Z_QN_CONF"][0]) for one in found]
        best = int(np.argsort(-np.asarray(confidence), kind="stable")[0])
        what = f"the most confident, {confidence[best]:.2f}: there is no quasar"
        if np.isnan(confidence[best]):
            what = "the first: none has a result"
        return [found[best]], f" ({what})"
    left, chosen = _shared.MOST_PICTURES, []
    for one in with_quasars:
        if left:
            chosen.append(one.take(np.arange(min(left, one.indices.size))))
            left -= chosen[-1].indices.size
    if total > _shared.MOST_PICTURES:
        return chosen, f" (the first of {total} quasars)"
    return chosen, " (all quasars)" if total > 1 else " (the only quasar)"


def _ensure_all_known(
    found: Sequence[_Chosen], targetids: NDArray[np.int64] | None
) -> None:
    """Refuse targets that no file has."""
    known = [one.result.table["TARGETID"] for one in found]
    names = [joint_name(one.group) for one in found]
    where = names[0] if len(names) == 1 else f"{len(names)} files"
    if targetids is not None:
        target_indices(targetids, np.concatenate(known), where, all_known=True)


def _labels(chosen: Iterable[_Chosen]) -> list[str]:
    """Tell the files of several spectra apart, by target where that is enough."""
    rows = [
        (int(target), stem(one.group), int(index))
        for one in chosen
        for target, index in zip(one.result.table["TARGETID"], one.indices, strict=True)
    ]
    times = collections.Counter(target for target, *_ in rows)
    several = len({name for _, name, _ in rows}) > 1
    labels: list[str] = []
    used: collections.Counter[str] = collections.Counter()
    for target, name, index in rows:
        parts = [] if target == -1 else [str(target)]
        if target == -1 or times[target] > 1:
            parts += [name] if several else []
            parts.append(f"row{index}")
        label = "-".join(parts)
        used[label] += 1  # of files that share a name
        labels.append(label if used[label] == 1 else f"{label}-{used[label]}")
    return labels


def _write(path: Path, figures: Iterable[Any]) -> None:
    content = pdf(figures) if path.suffix.lower() == ".pdf" else png(*figures)
    atomic_write(path, content)
