"""The command ``qnp-xp merge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..batch._console import count, note, say
from ..errors import SpectraError
from ..io._files import ensure_writable
from ..io._merge import merge_tables, read_part, without_duplicates
from ..io.open import read_lists
from ..io.tables import is_summary, write_catalog

__all__ = ["add_merge"]


def add_merge(commands: Any) -> None:
    """Add the subcommand to a parser.

    Parameters
    ----------
    commands
        What `argparse.ArgumentParser.add_subparsers` returned.
    """
    p = commands.add_parser(
        "merge",
        help="make one catalogue of many tables",
        description="Write the rows of tables of qnp-xp classify to one table, in the"
        " order given. All must be of one network and one set of options.",
    )
    p.add_argument("output", metavar="OUT", help="table to write")
    p.add_argument("files", metavar="FILE", nargs="+", help="qn-* table, or @LIST, a"
        " file with one of these a line")  # fmt: skip
    p.add_argument("--duplicates", choices=("keep", "best"), help="where a TARGETID is"
        " in several rows: keep all, or the one of the highest Z_QN_CONF; an error"
        " without this option"
        )  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace OUT")
    p.set_defaults(run=_merge)


def _merge(args: argparse.Namespace) -> int:
    output, files = Path(args.output), read_lists(args.files)
    ensure_writable(output, args.overwrite, files, fits=True)
    parts = []
    for name in files:
        try:
            parts.append(read_part(name))
        except SpectraError:
            if not is_summary(Path(name)):  # which lies beside the tables
                raise
            note(f"skipped: {name}: sums up a run")
    if not parts:
        msg = "no table to merge"
        raise ValueError(msg)
    merged, cards = merge_tables(parts)
    table = without_duplicates(merged, args.duplicates)
    cards.append(("QNDUPL", args.duplicates or "none", "what became of duplicates"))
    write_catalog(output, table, cards, overwrite=args.overwrite)
    left_out = count(merged.size - table.size, "duplicate")
    say(
        f"{count(len(parts), 'table')}, {count(table.size, 'row')},"
        f" {count(table['IS_QSO_QN'].sum(), 'quasar')}"
        f"{f', {left_out} left out' if table.size < merged.size else ''}"
        f" -> {output}"
    )
    return 0
