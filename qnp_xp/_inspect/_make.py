"""From spectra to the file of a page."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._classify import as_model
from .._options import Options
from ..io._files import atomic_write, ensure_name, ensure_writable
from ..io._truth import Kind, Truth
from ..io.memory import open_arrays
from ..io.open import groups_of, open_group
from ..io.source import Source
from ..io.weights import weights_path
from ..model import QuasarNP
from ..plot._views import views
from ._catalog import Catalog
from ._figure import ensure_bokeh
from ._page import page_content
from ._rows import Ask, Part, choose, limited
from ._targets import Targets, flagged_runs

# Keywords of a table that settings come from, and what they are without one.
_SETTINGS = {
    "c_thresh": ("C_THRESH", None),
    "n_thresh": ("N_THRESH", 1),
    "use_mask": ("USEMASK", False),
}


def make_page(
    spectra: Any,
    model: QuasarNP | str | Path | None,
    output: str | Path,
    *,
    ask: Ask,
    table: str | Path | None,
    limit: int,
    overwrite: bool,
    settings: Mapping[str, Any],
    lines: Sequence[str] | None = None,
    lines_bal: Sequence[str] | None = None,
) -> str:
    """Write the page of an input, or of several, and say what it shows.

    Settings that are None are those of the table.
    """
    ensure_bokeh()
    if operator.index(limit) < 1:
        msg = f"limit must be 1 or more, got {limit}"
        raise ValueError(msg)
    groups = groups_of(spectra)
    _ensure_output(output, overwrite, groups or [], (table, ask.truth), model)
    catalog = None if table is None else Catalog.read(table)
    network = as_model(model, lines=lines, lines_bal=lines_bal)
    if catalog is not None:
        catalog.ensure_made_by(network)
    options = _options(settings, catalog)
    # That of the network, where nothing else is said.
    c_thresh = options.threshold(network.c_thresh).value
    options = replace(options, c_thresh=c_thresh)
    openers: list[Callable[[], Source]] = [lambda: open_arrays(spectra)]
    if groups is not None:
        openers = [functools.partial(open_group, group) for group in groups]
    if len(openers) > 1 and ask.rows is not None:
        msg = f"rows are those of one input, and there are {len(openers)}: name targets"
        raise ValueError(msg)
    parts = [choose(open_, network, options, ask, catalog) for open_ in openers]
    _ensure_targets(ask, parts)
    shown = limited(parts, ask, limit)
    found, count = (sum(p.indices.size for p in each) for each in (parts, shown))
    if not count:
        others = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
        msg = f"{parts[0].result.name}{others}: no spectrum {ask.wanted}"
        raise ValueError(msg)
    targets = _targets(shown, network, options, ask.truth)
    physical = groups is not None
    content = page_content(targets, network, options, Path(output).stem, physical)
    atomic_write(Path(output), content)
    number = f"{count}" if count == found else f"{count} of {found}"
    noun = "spectrum" if found == 1 else "spectra"
    return f"{number} {noun}, {len(content) / 1e6:.1f} MB -> {output}"


def _ensure_output(
    output: str | Path,
    overwrite: bool,
    groups: Sequence[Sequence[Path]],
    tables: tuple[str | Path | None, Truth | None],
    model: QuasarNP | str | Path | None,
) -> None:
    """Raise an error for an output that cannot be written, or is an input."""
    ensure_name(output, "output")
    if Path(output).suffix.lower() not in (".html", ".htm"):
        msg = f"{output}: a page is a file whose name ends in .html"
        raise ValueError(msg)
    table, truth = tables
    inputs: list[str | Path] = [path for group in groups for path in group]
    inputs += [] if table is None else [table]
    inputs += [] if truth is None else [truth.name]
    if not isinstance(model, QuasarNP):
        inputs.append(weights_path(model))
    ensure_writable(Path(output), overwrite, inputs)


def _options(settings: Mapping[str, Any], catalog: Catalog | None) -> Options:
    """Take the settings that are given, else those of the table."""
    header = {} if catalog is None else catalog.header
    chosen = {}
    for name, (keyword, default) in _SETTINGS.items():
        own = header.get(keyword, (default, ""))[0]
        chosen[name] = own if settings[name] is None else settings[name]
    return Options(**chosen)


def _ensure_targets(ask: Ask, parts: Sequence[Part]) -> None:
    """Raise an error for targets that no input has."""
    if ask.targetids is None:
        return
    found = np.concatenate([part.result.table["TARGETID"] for part in parts])
    wanted = np.atleast_1d(np.asarray(ask.targetids))
    lacking = wanted[~np.isin(wanted, found)].tolist()
    if lacking:
        msg = f"no target {', '.join(map(str, lacking[:5]))} in what is to be shown"
        raise ValueError(msg)


def _targets(
    parts: Sequence[Part], model: QuasarNP, options: Options, truth: Truth | None
) -> Targets:
    """Read the spectra, and pack them with their results."""
    targets = Targets()
    for part in (part for part in parts if part.indices.size):
        with part.open() as source:
            each = views(source, part.result, part.indices, model, options, 5.0)
            for view, known in zip(each, part.known.tolist(), strict=True):
                flagged = flagged_runs(source, view)
                targets.add(view, flagged, *_truth_of(truth, known))
    return targets


def _truth_of(truth: Truth | None, row: int) -> tuple[str, float]:
    """Say what is known of a spectrum, and give its redshift, NaN without."""
    if truth is None or row < 0:
        return "", math.nan
    kind, z = Kind(int(truth.kind[row])).name.lower(), float(truth.z[row])
    return (f"{kind}, z = {z:.4f}" if z >= 0 else kind), z
