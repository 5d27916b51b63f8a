"""Run the code of one page of the documentation, in order, and say what came of it.

A program for `test_pages.py`: it reads blocks as JSON from stdin and writes their
outcomes as JSON to stdout. A process of its own keeps the pages, and what they change
(modules under another name, say), apart from each other and from the tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import traceback
from typing import Any


def run_python(code: str, where: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run a block in the namespace that the page's blocks share."""
    out, err, good = io.StringIO(), io.StringIO(), True
    # Errors of a block are to name its page and line.
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(compile(code, where, "exec"), namespace)
        except Exception:
            err.write(traceback.format_exc())
            good = False
    return {"good": good, "stdout": out.getvalue(), "stderr": err.getvalue()}


def run_bash(code: str) -> dict[str, Any]:
    """Run a block in a shell that stops at the first error."""
    shell = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    good = done.returncode == 0
    return {"good": good, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Run blocks up to the first that fails."""
    sys.path[0] = ""  # the folder of this file is none of the page's
    outcomes, namespace = [], {"__name__": "__main__"}
    for block in json.load(sys.stdin):
        if block["language"] == "python":
            outcome = run_python(block["padded"], block["page"], namespace)
        else:
            outcome = run_bash(block["code"])
        outcomes.append(outcome)
        if not outcome["good"]:
            break
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
