"""Images a second by batch size, against a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.detectors import Run
from benchmarks.timing import rates_by_batch, time_run
from stages.errors import InputError
from stages.stopwatch import OFF


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    return paths


class Fake:
    """A detector of `start` seconds a call and `each` an image; `most` images fit in memory."""

    def __init__(self, start: float, each: float, most: int = 99) -> None:
        self.start, self.each, self.most = start, each, most
        self.now = 0.0
        self.sizes: list[int] = []

    def __call__(self, images: list[Tensor]) -> None:
        assert all(image.shape == (3, 4, 6) and image.dtype == torch.uint8 for image in images)
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(images))
        self.now += self.start + self.each * len(images)

    def rates(self, paths: list[Path], device: str = "cpu") -> dict[int, float]:
        return rates_by_batch(self, paths, device, clock=lambda: self.now)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of the machine's that are free, whatever this machine has."""
    free = {"available": 2**50}
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(**free))
    return free


def test_every_size_sees_eight_images_or_more_and_one_batch_before(photos: list[Path]) -> None:
    fake = Fake(0.2, 0.1)
    rates = {size: size / (0.2 + 0.1 * size) for size in (1, 2, 4, 8, 16, 32, 64)}
    assert fake.rates(photos) == pytest.approx(rates)
    assert fake.sizes == [1] * 9 + [2] * 5 + [4] * 3 + [8] * 2 + [16] * 2 + [32] * 2 + [64] * 2


def test_a_gpu_is_tried_until_its_memory_ends(photos: list[Path]) -> None:
    assert max(Fake(2.0, 0.1, most=200).rates(photos, "cuda")) == 128


def test_a_cpu_is_not_tried_with_more_than_is_free(
    photos: list[Path], memory: dict[str, int]
) -> None:
    memory["available"] = 2**20
    assert set(Fake(0.2, 0.1).rates(photos)) == {1}


def test_it_ends_where_more_at_once_is_no_faster(photos: list[Path]) -> None:
    assert Fake(0.0, 0.1).rates(photos) == pytest.approx({1: 10, 2: 10})


def test_it_ends_where_memory_does(photos: list[Path]) -> None:
    assert set(Fake(0.2, 0.1, most=2).rates(photos, "cuda")) == {1, 2}
    with pytest.raises(torch.OutOfMemoryError):
        Fake(0.2, 0.1, most=0).rates(photos)


def test_a_slow_detector_is_timed_on_fewer(photos: list[Path]) -> None:
    fake = Fake(0.0, 3.0)
    assert fake.rates(photos) == pytest.approx({1: 1 / 3, 2: 1 / 3})
    assert fake.sizes == [1] * 3 + [2] * 2


def test_any_other_error_is_an_error(photos: list[Path]) -> None:
    def broken(images: list[Tensor]) -> None:
        raise ValueError("broken")

    call: Callable[[list[Tensor]], None] = broken
    with pytest.raises(ValueError, match="broken"):
        rates_by_batch(call, photos, "cpu")


class Hoarder:
    """A detector that finds nothing and keeps so many MiB."""

    watch = OFF

    def __init__(self, mib: int) -> None:
        self.kept = np.ones(mib * 2**20, np.uint8)

    def __call__(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": torch.zeros(0, 4)} for _ in images]


class HoarderRun(Run):
    def detector(self, device: str) -> Hoarder:
        if self.metrics["mib"] < 0:
            raise MemoryError("no more")
        return Hoarder(self.metrics["mib"])


def test_a_detectors_memory_is_its_own(photos: list[Path], tmp_path: Path) -> None:
    kept = np.ones(500 * 2**20, np.uint8)  # here, in the process that asks
    much, none = (
        time_run(HoarderRun(tmp_path, {"paper": "rcnn", "mib": mib}), photos, "cpu", tmp_path / "m")
        for mib in (600, 0)
    )
    assert 500 < much["peak_memory_mib"] - none["peak_memory_mib"] < 700
    # PyTorch alone is some 300 MiB: what is kept here would show.
    assert none["peak_memory_mib"] < 300 + len(kept) / 2**20
    assert none["images_timed"] == 3 and none["best_batch"] == 1


def test_memory_that_ends_is_one_line(photos: list[Path], tmp_path: Path) -> None:
    run = HoarderRun(tmp_path / "rcnn", {"paper": "rcnn", "mib": -1})
    with pytest.raises(InputError, match="rcnn: memory ends: no more"):
        time_run(run, photos, "cpu", tmp_path / "m")
