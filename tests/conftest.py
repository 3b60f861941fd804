"""One thread a process, and a toy data set: pictures of noise, objects and proposals put down by hand.

Several test processes on a few cores, each with as many threads, wait for one another many
times longer than they compute; and sums are the same to the bit only in the same number of parts.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first loaded, which is after this

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from stages.data.records import Record
from stages.proposals.cache import Proposals, write_proposals
from stages.store import Artifact

# No test is timed: on a machine that is busy an example may take as long as it likes.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

WIDTH, HEIGHT = 60, 48
Box = Sequence[float]


@dataclass(frozen=True, eq=False)
class Toy:
    """A data set and its proposals. Every image is in both splits."""

    train: list[Record]
    proposals: Artifact
    classes: tuple[str, ...] = ("cat", "dog", "never")
    name: str = "toy"
    fingerprint: str = "toy"
    category_ids: tuple[int, ...] = (1, 2, 3)

    @property
    def test(self) -> list[Record]:
        return self.train

    @property
    def reader(self) -> Proposals:
        return Proposals(self.proposals.path / "proposals.h5")


def make_record(
    path: Path,
    boxes: Sequence[Box],
    labels: Sequence[int],
    crowd: Sequence[bool] = (),
    difficult: Sequence[bool] = (),
) -> Record:
    n = len(boxes)
    return Record(
        path.stem,
        path,
        WIDTH,
        HEIGHT,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult or [False] * n, bool),
        np.array(crowd or [False] * n, bool),
    )


def make_toy(
    folder: Path,
    objects: Sequence[Sequence[Box]],
    labels: Sequence[Sequence[int]],
    proposals: Sequence[Sequence[Box]],
    crowd: Sequence[Sequence[bool]] = (),
) -> Toy:
    """Objects, their labels, proposals and flags of each image in turn."""
    records = []
    for n, (boxes, of_image) in enumerate(zip(objects, labels, strict=True)):
        rng = np.random.default_rng(n)
        # Coarse noise: crops of different windows differ, and so do neighbouring pixels.
        noise = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        path = folder / f"{n:03d}.png"
        picture.save(path)
        records.append(make_record(path, boxes, of_image, crowd[n] if crowd else ()))
    write_proposals(
        folder / "proposals.h5",
        records,
        [np.array(boxes, np.float32).reshape(-1, 4) for boxes in proposals],
    )
    return Toy(records, Artifact(folder, "toy"))


def random_box(rng: np.random.Generator) -> list[float]:
    x, y = rng.uniform(0, WIDTH - 14), rng.uniform(0, HEIGHT - 14)
    w, h = rng.uniform(12, WIDTH - x), rng.uniform(12, HEIGHT - y)
    return [x, y, x + w, y + h]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Eighteen images, two shards. Image 3 has no object, image 5 no proposal, image 7 a crowd."""
    rng = np.random.default_rng(0)
    objects, labels, proposals, crowd = [], [], [], []
    for n in range(18):
        count = 0 if n == 3 else int(rng.integers(1, 4))
        boxes = [random_box(rng) for _ in range(count)]
        near = [np.clip(box + rng.normal(0, 1.5, 4), 0, HEIGHT).tolist() for box in boxes * 3]
        far = [random_box(rng) for _ in range(8)]
        objects.append(boxes)
        labels.append(rng.integers(1, 3, count).tolist())
        proposals.append([] if n == 5 else near + far)
        crowd.append([n == 7] + [False] * (count - 1) if count else [])
    return make_toy(tmp_path_factory.mktemp("toy"), objects, labels, proposals, crowd)


@pytest.fixture
def toy_of(tmp_path: Path) -> Callable[..., Toy]:
    """`make_toy` in a folder of its own."""

    def make(*args: Sequence[object], **kwargs: Sequence[object]) -> Toy:
        folder = tmp_path / "toy"
        folder.mkdir()
        return make_toy(folder, *args, **kwargs)  # type: ignore[arg-type]

    return make
