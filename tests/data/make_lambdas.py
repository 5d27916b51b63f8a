"""Add to ``tests/data/lambdas.json`` what this Python makes of some functions.

It holds for each version of CPython the marshalled code, base64, of each function.
Run it with every Python there is, 2.7 included::

    for python in python2.7 python3.6 python3.13; do
        $python tests/data/make_lambdas.py tests/data/lambdas.json
    done
"""

import base64
import io
import json
import marshal
import os
import sys

FUNCTIONS = (
    "lambda x: -0.1 + 1.2 * x",
    "lambda x: -0.1 + x * 1.2",
    "lambda x: 1.2 * x + -0.1",
    "lambda x: 1.2 * x - 0.1",
    "lambda x: -0.1 * x + 1.2",
    "lambda x: -0.1 - 1.2 * x",
    "lambda x: (-0.1 + 1.2) * x",
    "lambda x: 1.2 * x * -0.1",
    "lambda x: 1.2 * (x - 0.1)",
    "lambda x: -0.1 + 1.2 * x + x",
    "lambda x: -0.1 + 1.2 * x + 0",
    "lambda x, y=1: -0.1 + 1.2 * y",
    "lambda x: -0.1 + 1.3 * x",
    "lambda x: 0.1 + 1.2 * x",
)


def main(path):
    """Replace the functions of this version."""
    known = {}
    if os.path.exists(path):  # noqa: PTH110 - for Python 2.7
        with io.open(path) as f:  # noqa: UP020
            known = json.load(f)
    found = {}
    for source in FUNCTIONS:
        module = compile("f = " + source, "models.py", "exec")
        (code,) = [c for c in module.co_consts if hasattr(c, "co_code")]
        found[source] = base64.b64encode(marshal.dumps(code)).decode()
    known["%d.%d" % sys.version_info[:2]] = found  # noqa: UP031
    text = json.dumps(known, indent=1, sort_keys=True, separators=(",", ": "))
    with open(path, "w") as f:  # noqa: PTH123
        f.write(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
