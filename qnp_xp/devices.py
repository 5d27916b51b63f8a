"""Which device a run computes on: what users, DESI's environment and MPI say of it."""

from __future__ import annotations

import logging
import os

from ._xp.backend import visible_gpus

__all__ = ["device_of_rank", "permitted"]

_log = logging.getLogger(__name__)


def permitted(device: str) -> str:
    """The device that is asked for, unless ``$DESI_NO_GPU`` forbids GPUs.

    Parameters
    ----------
    device
        As for `qnp_xp.load_model`.

    Returns
    -------
    str
        ``"cpu"`` where the variable is set, whatever it is set to, as in desispec; a
        warning says so.
    """
    if "DESI_NO_GPU" in os.environ and (device == "auto" or device.startswith("gpu")):
        _log.warning("$DESI_NO_GPU is set: the CPU is used, and not %s", device)
        return "cpu"
    return device


def device_of_rank(device: str, local: int) -> str:
    """The device of one of the processes that run on a machine.

    Parameters
    ----------
    device
        As for `qnp_xp.load_model`.
    local
        Number of the process among those of its machine.

    Returns
    -------
    str
        For ``"gpu"`` and ``"auto"``, the visible GPUs in turn; else `device`.
    """
    if device not in ("auto", "gpu"):
        return device
    count = visible_gpus()
    return f"gpu:{local % count}" if count else device
