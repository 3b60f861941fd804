"""Executing a notebook in place: what it is given, what is kept of it, and what is said when it fails."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

import notebooks.__main__
from notebooks.__main__ import command
from notebooks.execute import tidy
from stages.errors import InputError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts a notebook of the given cells in place of the project's."""

    def write(*cells: str) -> Path:
        path = tmp_path / "short.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
        monkeypatch.setattr(notebooks.__main__, "notebooks", lambda: [path])
        return path

    return write


def test_it_is_written_in_place_with_its_outputs(write: Write, tmp_path: Path) -> None:
    path = write(
        "import os\nprint(os.environ['RUNS'], os.environ['PRESET'])",
        "from pathlib import Path\nprint(Path('execute.py').exists())",
    )
    command(["short", "--runs", str(tmp_path / "runs"), "--preset", "micro"])
    first, second = nbformat.read(path, as_version=4).cells
    assert first.outputs[0].text == f"{tmp_path / 'runs'} micro\n"
    assert second.outputs[0].text == "True\n"  # it runs where the notebooks are
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert not first.metadata


def test_what_the_user_can_mend_is_one_line_and_changes_no_file(write: Write) -> None:
    path = write(
        "import sys\nsys.path.insert(0, '..')\nfrom stages.errors import InputError",
        "raise InputError('runs/rcnn: no finished run; make rcnn makes it')",
    )
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        command([])
    assert error.value.line == "short.ipynb: runs/rcnn: no finished run; make rcnn makes it"
    assert path.read_bytes() == before


def test_an_unknown_name_is_refused(write: Write) -> None:
    write()
    with pytest.raises(InputError, match="shorter: no such notebook, but short"):
        command(["shorter"])


def with_output(*given: Any) -> Any:
    cell = new_code_cell("", outputs=list(given), metadata={"execution": {"iopub.status": "now"}})
    notebook = new_notebook(
        cells=[cell], metadata={"language_info": {"name": "python", "version": "3.11.7"}}
    )
    tidy(notebook)
    return notebook


def as_output(pixels: np.ndarray) -> Any:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = {"image/png": b64encode(file.getvalue()).decode(), "text/plain": "<Figure size 1x1>"}
    return new_output("display_data", data, metadata={"image/png": {"width": 10}})


def test_a_plot_stays_as_it_is() -> None:
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[20:40, 10:70] = (86, 180, 233)
    (output,) = with_output(as_output(pixels)).cells[0].outputs
    assert list(output.data) == ["image/png"] and not output.metadata
    kept = np.array(Image.open(BytesIO(b64decode(output.data["image/png"]))).convert("RGB"))
    np.testing.assert_array_equal(kept, pixels)


def test_a_photograph_becomes_a_small_jpeg() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC)
    pixels = np.array(smooth)
    given = as_output(pixels)
    before = len(given.data["image/png"])
    (output,) = with_output(given).cells[0].outputs
    assert list(output.data) == ["image/jpeg"]
    encoded = output.data["image/jpeg"]
    kept = np.array(Image.open(BytesIO(b64decode(encoded)))).astype(int)
    assert np.abs(kept - pixels).mean() < 6
    assert len(encoded) < before / 3


def test_only_what_was_meant_to_be_read_is_kept() -> None:
    printed = new_output("stream", text="mAP 31.9\n")
    value = new_output("execute_result", {"text/plain": "[<Line2D object at 0x7f>]"})
    notebook = with_output(printed, value)
    assert notebook.cells[0].outputs == [printed]
    assert not notebook.cells[0].metadata
    assert notebook.metadata.language_info == {"name": "python"}
