"""The exceptions of the package.

Each of them is also an instance of the built-in exception that a caller who
has never heard of this package would expect.

>>> issubclass(WeightsError, QnpError), issubclass(WeightsError, ValueError)
(True, True)
"""

from __future__ import annotations

from ._text import printable

__all__ = [
    "USER_ERRORS",
    "DeviceError",
    "MissingLibraryError",
    "NoSpectraError",
    "QnpError",
    "SpectraError",
    "WeightsError",
]


class QnpError(Exception):
    """Base class of every exception that the package raises by itself."""

    def __str__(self) -> str:
        # Names of HDUs and layers may hold sequences that a terminal obeys.
        return printable(super().__str__())


class WeightsError(QnpError, ValueError):
    """A weights file that cannot be read, or that holds a network of another kind."""


class SpectraError(QnpError, ValueError):
    """A file of spectra that cannot be read, or whose parts contradict each other."""


class NoSpectraError(SpectraError):
    """A sound file of DESI's that holds tables and no spectra, redrock's for one."""


class DeviceError(QnpError, RuntimeError):
    """A device that was asked for and cannot be used."""


class MissingLibraryError(QnpError, ImportError):
    """An optional library that is needed for what was asked, and not installed."""


#: Errors that a user can mend: the command reports them without a traceback.
USER_ERRORS = (QnpError, OSError, ValueError, TypeError, MemoryError)
