"""Run the tutorial in an empty folder and write it with its outputs.

`python tests/docs/run_tutorial.py docs/tutorial.ipynb` renews the outputs that are
stored in it.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def run_tutorial() -> Any:
    """Run its cells and leave out what differs from one machine to another."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=120, coalesce_streams=True, resources=where
        ).execute()
    language = {"name": "python", "pygments_lexer": "ipython3"}  # with !commands
    notebook.metadata["language_info"] = language
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        for output in cell.get("outputs", []):
            if "text" in output:  # a command writes to a terminal
                output["text"] = output["text"].replace("\r\n", "\n")
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
    return notebook


def smaller(picture: str) -> str:
    """Reduce a picture to a third of its bytes, by a palette of 128 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    out = io.BytesIO()
    image.convert("RGB").quantize(128).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


if __name__ == "__main__":
    # The command of this environment, and the network that ships.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ.pop("QN_MODEL_FILE", None)
    nbformat.write(run_tutorial(), sys.argv[1])
