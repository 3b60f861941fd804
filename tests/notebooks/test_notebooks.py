"""The notebooks: as they are in the repository, and executed on `micro` runs."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

from notebooks.execute import FOLDER, notebooks

# How many pictures each shows.
PICTURES = {
    "rcnn": 9,
    "spp_net": 6,
    "fast_rcnn": 7,
    "faster_rcnn": 7,
    "mask_rcnn": 6,
    "train_test_times": 6,
}
MOST_BYTES = 400_000

each = pytest.mark.parametrize("name", PICTURES)


def read(folder: Path, name: str) -> Any:
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def errors(notebook: Any) -> list[str]:
    return ["\n".join(o.traceback) for o in outputs(notebook) if o.output_type == "error"]


def pictures(notebook: Any) -> list[np.ndarray]:
    """uint8 [H, W, 3] each."""
    encoded = [
        data
        for output in outputs(notebook)
        for mime, data in output.get("data", {}).items()
        if mime in ("image/png", "image/jpeg")
    ]
    return [np.array(Image.open(BytesIO(b64decode(data))).convert("RGB")) for data in encoded]


def test_these_are_all() -> None:
    assert {path.stem for path in notebooks()} == set(PICTURES)


# One test for all: several processes with a share each would all make the runs and load torch.
def test_they_run_from_top_to_bottom(executed: dict[str, Any]) -> None:
    failed = {name: errors(notebook)[0] for name, notebook in executed.items() if errors(notebook)}
    assert not failed, "\n".join(failed.values())
    for name, notebook in executed.items():
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
        shown = pictures(notebook)
        assert len(shown) == PICTURES[name], name
        for picture in shown:
            assert picture.shape[0] > 100 and picture.shape[1] > 200
            # Lines, letters, an image: not an empty frame.
            assert (picture < 128).any(axis=2).mean() > 0.002, name


@each
def test_its_outputs_are_kept(name: str) -> None:
    notebook = read(FOLDER, name)
    assert not errors(notebook)
    assert len(pictures(notebook)) == PICTURES[name]
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # run once, from top to bottom


@each
def test_what_is_kept_is_small_and_says_nothing_of_the_machine(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < MOST_BYTES
    notebook = read(FOLDER, name)
    nbformat.validate(notebook)
    assert notebook.metadata.language_info == {"name": "python"}  # no version
    for cell in notebook.cells:
        assert not cell.metadata  # no times of execution
    printed = "".join(o.text for o in outputs(notebook) if o.output_type == "stream")
    assert not re.search(r"/(home|root|tmp|Users|work)\b", printed)
    assert "Warning" not in printed


@each
def test_it_links_to_files_that_are_there(name: str) -> None:
    text = "".join(cell.source for cell in read(FOLDER, name).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (FOLDER / link.partition("#")[0]).exists(), link
