"""The command ``qnp-xp``, as ``python -m qnp_xp``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
