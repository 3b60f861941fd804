"""Made-up data sets in the COCO and the YOLO layout, beside `make_voc`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Things = Mapping[str, Sequence[tuple]]
# Other numbers than labels have, and in another order than the names.
CATEGORY_IDS = {"cat": 17, "dog": 5, "emu": 30}


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def coco_of(things: Things, stems: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    """COCO's instances of things (name, x1, y1, x2, y2), continuous; ids of images from 1."""
    width, height = size
    return {
        "images": [
            {"id": i, "file_name": f"{stem}.jpg", "width": width, "height": height}
            for i, stem in enumerate(stems, 1)
        ],
        "categories": [{"id": i, "name": name} for name, i in CATEGORY_IDS.items()],
        "annotations": [
            {
                "id": 100 * i + k,
                "image_id": i,
                "category_id": CATEGORY_IDS[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [rectangle(x1, y1, x2, y2)],
            }
            for i, stem in enumerate(stems, 1)
            for k, (name, x1, y1, x2, y2) in enumerate(things[stem])
        ],
    }


@pytest.fixture
def write_images(make_photograph: Callable[..., np.ndarray]) -> Callable[..., None]:
    """A function that writes a .jpg for each name into a folder."""

    def write(folder: Path, stems: Sequence[str], size: tuple[int, int] = (48, 40)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stem in stems:
            Image.fromarray(make_photograph(stem, *size)).save(folder / f"{stem}.jpg", quality=90)

    return write


@pytest.fixture
def make_coco(tmp_path: Path, write_images: Callable[..., None]) -> Callable[..., Path]:
    """A function that writes a data set as COCO's: things by image name, image names by split."""

    def make(
        things: Things,
        splits: Mapping[str, Sequence[str]] | None = None,
        size: tuple[int, int] = (48, 40),
        folder: str = "coco",
    ) -> Path:
        root = tmp_path / folder
        (root / "annotations").mkdir(parents=True)
        stems = list(things)
        for split, of_split in (splits or {"train": stems[:-1], "val": stems[-1:]}).items():
            write_images(root / split, of_split, size)
            text = json.dumps(coco_of(things, of_split, size))
            (root / "annotations" / f"instances_{split}.json").write_text(text)
        return root

    return make


@pytest.fixture
def make_yolo(tmp_path: Path, write_images: Callable[..., None]) -> Callable[..., Path]:
    """A function that writes a data set as YOLO's, things as outlines or as boxes."""

    def make(
        things: Things,
        splits: Mapping[str, Sequence[str]] | None = None,
        size: tuple[int, int] = (48, 40),
        folder: str = "yolo",
        outlines: bool = False,
    ) -> Path:
        root = tmp_path / folder
        stems = list(things)
        splits = splits or {"train": stems[:-1], "val": stems[-1:]}
        names = sorted({name for of_image in things.values() for name, *_ in of_image})
        for split, of_split in splits.items():
            write_images(root / "images" / split, of_split, size)
            (root / "labels" / split).mkdir(parents=True)
            for stem in of_split:
                lines = []
                for name, x1, y1, x2, y2 in things[stem]:
                    box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
                    values = np.array(rectangle(x1, y1, x2, y2) if outlines else box)
                    parts = (values.reshape(-1, 2) / size).ravel().tolist()
                    lines.append(f"{names.index(name)} {' '.join(map(str, parts))}\n")
                if lines:
                    (root / "labels" / split / f"{stem}.txt").write_text("".join(lines))
        (root / "data.yaml").write_text(
            "".join(f"{split}: images/{split}\n" for split in splits)
            + f"nc: {len(names)}\nnames: {json.dumps(names)}\n"
        )
        return root

    return make


@pytest.fixture
def change() -> Callable[..., None]:
    """A function that changes a JSON file: `change(file, lambda data: ..)` edits it in place."""

    def edit(path: Path, how: Callable[[Any], Any]) -> None:
        data = json.loads(path.read_text())
        how(data)
        path.write_text(json.dumps(data))

    return edit
