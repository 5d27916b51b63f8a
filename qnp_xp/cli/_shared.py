"""Options that several commands share, and the lists that these take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .._text import explain, read_text
from ..lines import LINES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..selection import RowRanges

Add: TypeAlias = Callable[..., None]

#: Pictures that nobody asked for one by one.
MOST_PICTURES = 20


def adder(options: argparse._ActionsContainer) -> Add:
    """Return a function that adds an option, named as help shows it: ``-o --out OUT``.

    One without a value or settings is a flag. An argument is named as ``files FILE``.
    """

    def add(names: str, meaning: str, **settings: Any) -> None:
        *flags, last = names.split()
        if not last.startswith("-"):
            settings["metavar"] = last
        else:
            flags.append(last)
            settings = settings or {"action": "store_true"}
        options.add_argument(*flags, help=meaning, **settings)

    return add


def add_model(add: Add) -> None:
    """Add the option of the weights."""
    add(
        "-m --model WEIGHTS",
        "weights file (default: $QN_MODEL_FILE, else the network that ships with the"
        " package)",
    )


def add_targetids(add: Add, otherwise: str = "") -> None:
    """Add the option of targets."""
    meaning = f"TARGETIDs: 1,2,3, or 1 2 3, or @FILE with one on each line{otherwise}"
    add("--targetids --targetid T", meaning, action="append")


def add_dtype(add: Add) -> None:
    """Add the option of what is computed in."""
    meaning = "precision of the network (default: %(default)s)"
    add("--dtype", meaning, choices=("float32", "float64"), default="float32")


def add_compiled(add: Add) -> None:
    """Add the option of what LLVM compiles."""
    meaning = (
        "let LLVM compile the network (default: in float32, if llvmlite is installed)"
    )
    add("--compiled", meaning, action=argparse.BooleanOptionalAction)


def add_thresholds(add: Add, of_table: str = "") -> None:
    """Add the options that say which pixels count, and what a quasar is."""
    add("--use-mask", "leave out pixels whose MASK is set")
    meaning = (
        "confidence above which a line counts (default: that of the network, else"
        f" 0.5{of_table})"
    )
    add("--c-thresh C_THRESH", meaning, type=float)
    meaning = "number of such lines that a quasar has at least (default: %(default)s)"
    add("--n-thresh N_THRESH", meaning, type=int, default=1)


def add_lines(add: Add) -> None:
    """Add the options that name the lines of other networks."""
    default = ",".join(LINES)
    meaning = f"emission lines of the network, if they are not DESI's {default}"
    add("--lines LINES", meaning, type=name_list)
    add("--lines-bal LINES_BAL", "BAL lines of the network", type=name_list)


#: Names and meanings of other options that several commands have.
DEVICE = "--device DEVICE", "cpu, gpu, gpu:N or auto (default: cpu)"
ROWS = "--rows ROWS", "row numbers, which begin with 0: 0,3,5-9"


#: What `wave_grid` takes.
GRIDS = (
    "log, 443 bins of 1e-3 in log10 from 3600 Angstrom; linear, 458 bins of 13.6"
    " Angstrom; START:STEP:N in Angstrom; log:START:STEP:N, its STEP in log10; or a"
    " text FILE of wavelengths"
)


def wave_grid(text: str) -> NDArray[np.float64]:
    """Read a wavelength grid: its name, start, step and number of bins, or a file."""
    import numpy as np

    from ..grids import Grid, linear_wave, wave

    named = {"log": wave, "linear": linear_wave}
    match = re.fullmatch(r"(log:)?([^:]+):([^:]+):(\d{1,6})", text)
    try:
        if text in named:
            return named[text]
        if match:
            steps = float(match[3]) * np.arange(int(match[4]))
            with np.errstate(over="ignore"):  # what is not finite is no grid
                grid = (
                    float(match[2]) * 10**steps if match[1] else float(match[2]) + steps
                )
        else:
            grid = np.array(read_text(Path(text)).split(), dtype=np.float64)
        Grid.from_wave(grid)
    except (OSError, ValueError) as err:
        known = "log, linear, START:STEP:N, log:START:STEP:N or a text file"
        msg = f"{text}: no grid ({explain(err)}); a grid is {known}"
        raise ValueError(msg) from err
    return np.asarray(grid, dtype=np.float64)


def row_list(text: str) -> RowRanges:
    """Read row numbers and ranges of them, as in ``0,3,5-9``."""
    from ..selection import RowRanges

    ranges: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            msg = f"rows are numbers and ranges, as in 0,3,5-9; {part!r} is neither"
            raise argparse.ArgumentTypeError(msg)
        if ranges and ranges[-1].stop == first:  # one spelling for the same rows
            first = ranges.pop().start
        ranges.append(range(first, last + 1))
    return RowRanges(tuple(ranges))


def id_list(text: str) -> NDArray[np.int64]:
    """Read TARGETIDs: ``1,2,3``, or ``@FILE``, which holds one a line."""
    import numpy as np

    words: Iterable[str] = text.split(",")
    if text.startswith("@"):
        try:
            words = read_text(Path(text[1:])).split()
        except (OSError, ValueError) as err:
            msg = f"{text}: no list of targets ({explain(err)})"
            raise ValueError(msg) from err
    found = []
    for word in words:
        integer = re.fullmatch(r"[+-]?\d{1,19}", word.strip())
        if not integer or not -(1 << 63) <= int(word) < 1 << 63:
            msg = (
                f"{text}: TARGETIDs are integers of 64 bits, and {word[:40]!r} is none"
            )
            raise ValueError(msg)
        found.append(int(word))
    return np.asarray(found, dtype=np.int64)


def all_ids(lists: Sequence[str] | None) -> NDArray[np.int64] | None:
    """Read all lists of TARGETIDs that were given; None where none was."""
    import numpy as np

    return None if lists is None else np.concatenate([*map(id_list, lists)])


def name_list(text: str) -> list[str]:
    """Read names with commas between them, as ``LYA,CIV(1548)``."""
    return [name for name in text.split(",") if name]
