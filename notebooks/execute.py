"""Run a notebook from top to bottom, and leave it so that a repository can keep it."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from notebooks.finished import PRESET, RUNS

FOLDER = Path(__file__).parent
CELL_SECONDS = 600
PNG = "image/png"
PLOT = 3000  # different colours at most; photographs have more


def notebooks() -> list[Path]:
    """The project's, by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(
    notebook: Any, runs: Path, preset: str, kernel: AsyncKernelManager | None = None
) -> None:
    """Put new outputs into a notebook, which is not written anywhere.

    Args:
        notebook: as `nbformat.read` gives it; its cells run in `FOLDER`, as an editor's do.
        runs, preset: which finished runs it looks into.
        kernel: one that remembers earlier notebooks, and stays; None: a new one.

    Raises:
        CellExecutionError: a cell failed.
    """
    client = NotebookClient(
        notebook,
        # Encrypted where it can be, or ipykernel warns that others on the machine may listen.
        km=kernel or AsyncKernelManager(transport_encryption="auto"),
        timeout=CELL_SECONDS,
        record_timing=False,  # a file that only says when it was run again is no news
        resources={"metadata": {"path": str(FOLDER)}},
    )
    environment = {**os.environ, RUNS: str(runs.resolve()), PRESET: preset}
    client.execute(cleanup_kc=kernel is None, env=environment)
    tidy(notebook)


def tidy(notebook: Any) -> None:
    """Take out what differs from machine to machine, and make pictures small."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_value(output)]
            for output in cell.outputs:
                output.get("metadata", {}).clear()
                if PNG in output.get("data", {}):
                    output["data"] = nbformat.from_dict(_small(output["data"][PNG]))


def _is_value(output: Any) -> bool:
    """Whether it is what a cell's last line returned, as matplotlib's functions do: nobody asked for it."""
    return output.output_type == "execute_result" and PNG not in output.data


def _small(png: str) -> dict[str, str]:
    """A picture as base64 by its type: a plot as PNG with a palette, one with photographs in it as JPEG."""
    picture = Image.open(BytesIO(b64decode(png))).convert("RGB")
    file = BytesIO()
    if picture.getcolors(PLOT) is None:
        picture.save(file, "JPEG", quality=75, optimize=True)
        return {"image/jpeg": b64encode(file.getvalue()).decode()}
    picture.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return {PNG: b64encode(file.getvalue()).decode()}
