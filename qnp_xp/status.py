"""What happened to a row of the input: the bits of the column QN_STATUS."""

from __future__ import annotations

import enum

__all__ = ["Status", "status_words"]


class Status(enum.IntFlag):
    """Bits of QN_STATUS; 0 says that the row was scored and that nothing is to be said.

    A row with a bit of `UNSCORED` has no result: its confidences and redshifts are
    NaN. The other bits are remarks on a row that was scored.

    Examples
    --------
    >>> Status.NO_GOOD_PIXEL in Status(9), Status.ARM_MISSING in Status(9)
    (True, False)
    """

    NO_GOOD_PIXEL = 1
    """No pixel on the grid of the network has a positive inverse variance."""
    ZERO_VARIANCE = 2
    """The spectrum is constant, or has numbers that the network cannot compute with."""
    ARM_MISSING = 4
    """The file, or this row of it, lacks an arm; the others were used."""
    PIXELS_CLEANED = 8
    """Pixels of impossible weight, or of NaN or infinite flux, were left out."""
    NOT_TARGET = 16
    """OBJTYPE says so (a sky fiber): scored, and never counted as a quasar."""
    LITTLE_COVERAGE = 32
    """Less than a third of the bins has weight: scored, on little evidence."""

    UNSCORED = NO_GOOD_PIXEL | ZERO_VARIANCE


def status_words(status: int) -> str:
    """Say in words what a QN_STATUS means: ``not scored (no good pixel)``."""
    bits = [bit for bit in Status if bit != Status.UNSCORED and status & int(bit)]
    said = ", ".join(str(bit.name).replace("_", " ").lower() for bit in bits)
    done = "not scored" if status & int(Status.UNSCORED) else "scored"
    return f"{done} ({said})" if said else done
