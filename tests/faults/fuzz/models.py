"""Finished detectors: `model.json` of every kind, and R-CNN's arrays beside it.

Accepted is one that detects in a photograph.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from benchmarks.detectors import LOADERS
from benchmarks.rivals import detector as rivals
from benchmarks.rivals.yolov3 import detector as yolov3
from fast_rcnn import detector as fast
from fast_rcnn.config import DetectionConfig as FastDetectionConfig
from fast_rcnn.config import ScaleConfig
from faster_rcnn import detector as faster
from faster_rcnn.config import AnchorConfig, ProposalConfig, RPNConfig
from mask_rcnn import detector as mask
from mask_rcnn.config import MaskConfig, MaskDetectionConfig, NetworkConfig
from mask_rcnn.config import PyramidConfig as FeaturePyramidConfig
from rcnn_v1 import detector as rcnn
from rcnn_v1.config import DetectionConfig
from spp_net import detector as spp
from spp_net.config import PyramidConfig
from spp_net.network import with_pyramid
from stages.backbones.weights import Weights, build_backbone
from stages.proposals.selective_search import SelectiveSearchConfig
from tests.faults.fuzz.reader import Case, Reader

CLASSES = ("cat", "dog")
SCALE = ScaleConfig(train=(48,), test=(48,), longest=80)
RANDOM = Weights(None, "random")
PICTURE = torch.zeros(3, 32, 40, dtype=torch.uint8)
PICTURE[:, 8:20, 10:30], PICTURE[0, 22:30, 2:12] = 200, 90


def _svms(width: int) -> dict[str, np.ndarray]:
    weights = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
    return {"weights": weights, "bias": np.zeros(2, np.float32), "scale": np.float32(1)}


def _regressors(width: int) -> dict[str, np.ndarray]:
    return {"weights": np.zeros((2, 4, width), np.float32), "bias": np.zeros((2, 4), np.float32)}


def _rcnn(folder: Path) -> None:
    search, detection = SelectiveSearchConfig(), DetectionConfig(batch=16)
    backbone = build_backbone("tiny", RANDOM)
    about = rcnn.Description("rcnn", "tiny", CLASSES, "fc7", "float32", 8, search, detection, 0.07)
    rcnn.save(folder / "rcnn", about, backbone.state_dict(), _svms(256), _regressors(2048))
    pyramid = PyramidConfig(scales=(48,), longest=80, window_side=64, levels=(2, 1))
    described = spp.Description(
        "spp", "tiny", CLASSES, "fc7", "float32", 8, search, detection, pyramid
    )
    state = with_pyramid(backbone, pyramid.levels).state_dict()
    rcnn.save(folder / "spp", described, state, _svms(256), _regressors(128 * 5))


def _others(folder: Path) -> None:
    detection, search = FastDetectionConfig(dtype="float32"), SelectiveSearchConfig()
    one = fast.Description("fast", "tiny", CLASSES, 8, search, SCALE, detection)
    fast.save(folder / "fast", one, fast.build(one).state_dict())
    rpn = RPNConfig(width=8, anchors=AnchorConfig(sizes=(16.0, 32.0)))
    proposals = ProposalConfig(before=50, after=8, least_side=2.0)
    two = faster.Description("faster", "tiny", CLASSES, SCALE, rpn, proposals, detection)
    faster.save(folder / "faster", two, faster.build(two).state_dict())
    network = NetworkConfig(
        pyramid=FeaturePyramidConfig(finest=8, width=8, canonical_side=48.0),
        fc=16,
        mask=MaskConfig(convs=1, width=8, fc=16),
    )
    rpn = RPNConfig(width=8, anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0)))
    three = mask.Description(
        *("mask", "tiny", CLASSES, SCALE, network, rpn, proposals),
        MaskDetectionConfig(dtype="float32", per_image=5),
    )
    mask.save(folder / "mask", three, mask.build(three).state_dict())
    priors = tuple((4.0 * n, 3.0 * n) for n in range(1, 10))
    four = yolov3.Description("yolov3", "tiny", CLASSES, priors, 8, SCALE, detection)
    yolov3.save(folder / "yolov3", four, yolov3.build(four).state_dict())
    # Its weights are left out: torchvision takes a second to build.
    five = rivals.Description("torchvision-faster", CLASSES, 48, 80, 8, "float32")
    rivals.save(folder / "torchvision-faster", five, {})


def _make(folder: Path) -> Sequence[str]:
    torch.manual_seed(0)
    _rcnn(folder)
    _others(folder)
    described = [f"{path.parent.name}/model.json" for path in sorted(folder.glob("*/model.json"))]
    return [*described, "rcnn/svms.npz", "rcnn/regressors.npz"]


def _read(folder: Path, name: str) -> None:
    paper = name.partition("/")[0]
    if paper == "torchvision-faster":
        rivals.read_description(folder / name)
        return
    torch.manual_seed(0)
    detector = LOADERS[paper](folder / paper, "cpu")
    (found,) = detector([PICTURE])
    boxes, count = found["boxes"], len(found["scores"])
    assert boxes.shape == (count, 4)
    assert torch.isfinite(boxes).all()
    assert len(found["labels"]) == count
    assert count == 0 or 1 <= found["labels"].min() <= found["labels"].max() <= len(
        detector.classes
    )
    assert "masks" not in found or found["masks"].shape == (count, *PICTURE.shape[1:])


# Numbers that a field of any description may have, and most may not.
NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 3, 7, 63, 64, 10_000, 10**6, 2**31, 2**63 - 1, 10**30),
    *(0.0, -0.5, 0.5, 1.5, 1e-30, 1e30, float("inf"), float("nan"), None, True),
    *([], [0], [-1], [10**6], [16.0] * 40, [1, 2, 3]),
]


def _numbers(value: Any) -> Iterator[tuple[Any, Any]]:
    """Places of numbers, and of lists of them."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from _numbers(inner)
        if not isinstance(inner, dict | str):
            yield value, key


@st.composite
def _extremes(draw: st.DrawFn, folder: Path) -> Case:
    """One number of a description another."""
    name = draw(st.sampled_from(sorted(folder.glob("*/model.json"))))
    content = json.loads(name.read_text())
    holder, key = draw(st.sampled_from(list(_numbers(content))))
    holder[key] = draw(st.sampled_from(NUMBERS))
    return Case(name.relative_to(folder).as_posix(), json.dumps(content).encode())


@st.composite
def _arrays(draw: st.DrawFn, folder: Path) -> Case:
    """Other arrays in the place of R-CNN's."""
    name = draw(st.sampled_from(("svms.npz", "regressors.npz")))
    with np.load(folder / "rcnn" / name) as given:
        arrays = dict(given)
    key = draw(st.sampled_from(list(arrays)))
    whole = arrays[key]
    others: list[Callable[[], np.ndarray]] = [
        lambda: whole.astype(np.float64),
        lambda: whole.astype(np.complex64),
        lambda: whole.astype("U8"),
        lambda: whole.astype(object),
        lambda: np.full_like(whole, np.nan),
        lambda: whole[..., :1] if whole.ndim else whole,
        lambda: whole[:1] if whole.ndim else np.zeros(3),
        lambda: np.zeros((0,) * whole.ndim, np.float32),
        lambda: whole[None],
        lambda: np.zeros(5, np.float32),
        lambda: np.zeros(2, [("a", "f4")]),
    ]
    arrays[key] = draw(st.sampled_from(others))()
    made = io.BytesIO()
    save = np.savez_compressed if draw(st.booleans()) else np.savez
    save(made, **arrays)  # type: ignore[arg-type]
    content = made.getvalue()
    if draw(st.integers(0, 9)) == 0:
        content = draw(st.sampled_from((_array_bomb, _header_bomb, lambda: b"\x93NUMPY")))()
    return Case(f"rcnn/{name}", content)


def _zipped(npy: bytes, zeros: int = 0) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key in ("weights", "bias", "scale"):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                file.write(npy)
                for _ in range(zeros):
                    file.write(bytes(2**24))
    return made.getvalue()


def _header(shape: str) -> bytes:
    text = (
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@cache
def _array_bomb() -> bytes:
    """400 megabytes of zeros, deflated to two."""
    return _zipped(_header(f"({2**25},)"), zeros=8)


@cache
def _header_bomb() -> bytes:
    return _zipped(_header(f"({2**40}, 4)"))


def _wrong(folder: Path) -> st.SearchStrategy[Case]:
    extremes, arrays = _extremes(folder), _arrays(folder)
    return st.integers(0, 4).flatmap(lambda dice: arrays if dice == 0 else extremes)


MODELS = Reader("Models (model.json, .npz)", _make, _read, _wrong, share=6, quick=80)
