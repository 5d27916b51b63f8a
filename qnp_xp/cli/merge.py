"""Write the rows of several tables of qnp-xp classify to one table, in the order given.

All tables must have been made with the same network and the same options.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .._printing import count, note, say
from ..errors import SpectraError
from ._shared import adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    add("output OUT", "table to write")
    meaning = "qn-* table, or @LIST, a file with one of these on each line"
    add("files FILE", meaning, nargs="+")
    add(
        "--duplicates",
        "if a TARGETID has several rows, keep all of them, or the one with the highest"
        " Z_QN_CONF (default: an error)",
        choices=("keep", "best"),
    )
    add("--overwrite", "replace OUT")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..io._catalog import is_summary
    from ..io._files import different_files, ensure_writable
    from ..io._merge import Part, ensure_no_copies, merge_tables, without_duplicates
    from ..io.open import read_lists
    from ..io.tables import read_catalog, write_catalog

    output, files = Path(args.output), read_lists(args.files)
    lists = [name[1:] for name in args.files if name.startswith("@")]
    _ensure_no_table(output)
    ensure_writable(output, args.overwrite, [*files, *lists])
    parts = []
    for path in different_files(map(Path, files)):
        try:
            parts.append(Part(path, *read_catalog(path)))
        except SpectraError:
            if not is_summary(path):  # which lies beside the tables
                raise
            note(f"skipped: {path}: sums up a run")
    if not parts:
        msg = "no table to merge"
        raise ValueError(msg)
    if args.duplicates != "keep":
        ensure_no_copies(parts)
    merged, cards = merge_tables(parts)
    table = without_duplicates(merged, args.duplicates)
    cards.append(("QNDUPL", args.duplicates or "none", "what became of duplicates"))
    write_catalog(output, table, cards, overwrite=args.overwrite)
    said = [count(len(parts), "table"), count(table.size, "row")]
    said.append(count(table["IS_QSO_QN"].sum(), "quasar"))
    if table.size < merged.size:
        said.append(f"{count(merged.size - table.size, 'duplicate')} left out")
    say(f"{', '.join(said)} -> {output}")
    return 0


def _ensure_no_table(output: Path) -> None:
    """Refuse to replace what classify wrote: OUT was left out, and this is a FILE."""
    from ..io._catalog import is_summary, is_table_of_classify

    if not output.is_file():
        return
    if is_summary(output) or is_table_of_classify(output):
        msg = f"{output}: written by classify, and never replaced; OUT comes first"
        raise ValueError(msg)
