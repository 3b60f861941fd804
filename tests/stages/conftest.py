"""Made-up data sets in the VOC layout."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def photograph(stem: str, width: int, height: int) -> np.ndarray:
    """Coloured rectangles on noise, uint8 [height, width, 3], the same for the same name."""
    rng = np.random.default_rng(zlib.crc32(stem.encode()))
    image = rng.integers(0, 40, (height, width, 3))
    for _ in range(5):
        x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
        w, h = rng.integers(8, width // 2), rng.integers(8, height // 2)
        image[y : y + h, x : x + w] += rng.integers(30, 160, 3)
    return image.clip(0, 255).astype(np.uint8)


def annotation(things: Sequence[tuple], width: int, height: int) -> str:
    """XML of things (name, xmin, ymin, xmax, ymax[, difficult]); boxes 1-based inclusive."""
    objects = ""
    for name, xmin, ymin, xmax, ymax, *difficult in things:
        objects += (
            f"<object><name>{name}</name><difficult>{int(any(difficult))}</difficult>"
            f"<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
            "</bndbox></object>"
        )
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"{objects}</annotation>"
    )


@pytest.fixture
def make_voc(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a data set: things by image name, image names by split."""

    def make(
        things: Mapping[str, Sequence[tuple]],
        splits: Mapping[str, Sequence[str]] | None = None,
        size: tuple[int, int] = (48, 40),
        folder: str = "made",
    ) -> Path:
        root = tmp_path / folder
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / part).mkdir(parents=True)
        for stem, objects in things.items():
            picture = Image.fromarray(photograph(stem, *size))
            picture.save(root / "JPEGImages" / f"{stem}.jpg", quality=90)
            (root / "Annotations" / f"{stem}.xml").write_text(annotation(objects, *size))
        if splits is None:
            stems = list(things)
            splits = {"trainval": stems[:-1], "test": stems[-1:]}
        for name, stems in splits.items():
            (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{s}\n" for s in stems))
        return root

    return make


@pytest.fixture
def write_annotation() -> Callable[..., str]:
    return annotation


@pytest.fixture
def make_photograph() -> Callable[..., np.ndarray]:
    return photograph
