"""`make peers PAPER=faster|mask`: ours against torchvision's, the same network, on this machine, in turns.

Torchvision twice: as it comes (float32), and given our type and memory layout; a training step's peak
memory, each system in a process of its own; and what the RPN costs beside selective search, on the same
scene.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.mask_twin import mask_twin_of
from benchmarks.twin import twin_of
from benchmarks.untrained import CLASSES, random_backbone, random_boxes
from fast_rcnn.config import ScaleConfig
from fast_rcnn.train import choose_learners
from faster_rcnn.config import Config, RPNConfig
from faster_rcnn.detector import ready as ready_faster
from faster_rcnn.network import FasterRCNN
from faster_rcnn.rpn import RPN
from mask_rcnn.config import Config as MaskConfig
from mask_rcnn.config import PoolConfig
from mask_rcnn.detector import ready as ready_mask
from mask_rcnn.network import MaskRCNN
from mask_rcnn.network import build_untrained as build_mask
from mask_rcnn.pyramid import stages_of
from stages.backbones.config import Name
from stages.data.shapes import ShapesConfig, draw_scene
from stages.device import DType, autocast, choose_device, choose_dtype
from stages.errors import InputError
from stages.machine import commit, device_name
from stages.memory import keep_freed_memory
from stages.proposals.propose import propose
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.stopwatch import OFF, Stopwatch
from stages.training.sgd import Rates, SGDConfig, make_sgd

OURS, PLAIN, GIVEN = "ours", "torchvision as it comes", "torchvision, our type and layout"
OBJECTS = 8  # in an image of a training step
RATE = SGDConfig(lr=1e-9, iterations=1)  # noise must not drive the weights anywhere


def peers(arguments: Sequence[str]) -> None:
    """Time, tabulate. Writes `<runs>/report/peers.csv` and `peers.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers")
    parser.add_argument("--paper", choices=sorted(PAPERS), default="faster")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", nargs=2, type=int, default=(600, 800), help="height and width")
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    if options.backbone not in get_args(Name):
        raise InputError(f"--backbone {options.backbone}: takes {', '.join(get_args(Name))}")
    device = choose_device(options.device)
    paper, size = PAPERS[options.paper], (options.size[0], options.size[1])
    model, images = _model_and_images(options.paper, options.backbone, size, options.batch)
    rows = [
        *_time("inference", inference(paper, model, images[:1], device), device, options.rounds),
        *_time("training", training(paper, model, images, device), device, options.rounds),
    ]
    for row in rows:
        if row["phase"] == "training":
            case = (options.paper, options.backbone, size, options.batch, device, row["system"])
            row["peak_mib"] = _in_a_new_process(case)
    table = pd.DataFrame(rows)
    report = options.runs / "report"
    report.mkdir(parents=True, exist_ok=True)
    name = "peers" if options.paper == "faster" else f"peers-{options.paper}"
    table.to_csv(report / f"{name}.csv", index=False, float_format="%.4f")
    searched = _search_seconds(images[0])
    text = _text(table, paper.title, model, options.backbone, size, device, searched)
    (report / f"{name}.md").write_text(text)
    print(f"{text}\n{report / f'{name}.md'}")


def _model_and_images(
    paper: str, backbone: Name, size: tuple[int, int], batch: int
) -> tuple[Any, list[Tensor]]:
    torch.manual_seed(0)
    images = [scene(*size, seed) for seed in range(batch)]
    return PAPERS[paper].build(backbone, min(size), max(size)), images


def _in_a_new_process(case: tuple[Any, ...]) -> float:
    """`step_memory` of nothing but the case: a process's peak never falls."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step_memory, case)


def step_memory(
    paper: str, backbone: Name, size: tuple[int, int], batch: int, device: str, system: str
) -> float:
    """MiB that training steps of a system need at most: of the GPU or, of a CPU, the whole process."""
    keep_freed_memory()
    model, images = _model_and_images(paper, backbone, size, batch)
    step = training(PAPERS[paper], model, images, device, (system,))[system]
    for _ in range(3):
        step(OFF)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage's: that begins with the parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def scene(height: int, width: int, seed: int) -> Tensor:
    """A drawn scene, uint8 [3, H, W]: selective search finds something in it."""
    config = ShapesConfig(train=0, test=0, width=width, height=height, largest=0.5 * height)
    image = draw_scene(np.random.default_rng(seed), config).image
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _search_seconds(image: Tensor) -> float:
    """Of selective search: the median of three."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        propose(image, SelectiveSearchConfig(), None)
        taken.append(time.perf_counter() - started)
    return median(taken)


def faster_rcnn(name: Name, shorter: int, longest: int) -> FasterRCNN:
    """The paper's network with random weights that tell regions apart; anchors as torchvision's."""
    config = Config()
    anchors = dataclasses.replace(config.rpn.anchors, centre=0.0)
    backbone = random_backbone(name)
    model = FasterRCNN(
        backbone,
        RPN(backbone.channels, RPNConfig(width=256, anchors=anchors), (backbone.stride,)),
        CLASSES,
        ScaleConfig((shorter,), (shorter,), longest),
        config.proposals,
        config.detection,
        config.joint.proposals,
        config.joint.sampling,
        config.loss,
    )
    _spread(model)
    return model


@torch.no_grad()
def _spread(model: FasterRCNN) -> None:
    """As a trained one's: few regions alike, small moves."""
    for layer, deviation in ((model.rpn.scores, 1.0), (model.rpn.offsets, 0.1)):
        nn.init.normal_(layer.weight, std=deviation / layer.in_channels**0.5)


def mask_rcnn(name: Name, shorter: int, longest: int) -> MaskRCNN:
    """The paper's network over a pyramid with random weights, as torchvision takes anchors and RoIs."""
    config = MaskConfig()
    # `tiny` has no map at stride 32: a smaller pyramid, and as many sizes of anchors.
    maps = len(stages_of(name, config.network.pyramid.finest)) + 1
    sizes = config.rpn.anchors.sizes[:maps]
    anchors = dataclasses.replace(config.rpn.anchors, sizes=sizes, centre=0.0, as_torchvision=True)
    model = build_mask(
        random_backbone(name),
        CLASSES,
        dataclasses.replace(config.network, pool=PoolConfig(half_pixel=False)),
        dataclasses.replace(config.rpn, anchors=anchors),
        ScaleConfig((shorter,), (shorter,), longest),
        proposals=config.proposals,
        # Every image has as many detections as get a mask.
        detection=dataclasses.replace(config.detection, least_score=0.0, rounded=True),
        train_proposals=config.train.proposals,
        sampling=config.train.sampling,
        loss=config.loss,
    )
    _spread(model)
    return model


@dataclasses.dataclass(frozen=True)
class Paper:
    """What is compared.

    Attributes:
        build: (backbone, shorter, longest) -> our network, random.
        twin: of it, torchvision's.
        ready: (model, dtype, device) -> ready to detect.
    """

    title: str
    build: Callable[[Name, int, int], Any]
    twin: Callable[[Any], nn.Module]
    ready: Callable[[Any, DType, str], Any]


PAPERS = {
    "faster": Paper("Faster R-CNN", faster_rcnn, twin_of, ready_faster),
    "mask": Paper("Mask R-CNN", mask_rcnn, mask_twin_of, ready_mask),
}


def inference(
    paper: Paper, model: FasterRCNN, images: Sequence[Tensor], device: str
) -> dict[str, Callable[[Stopwatch], Any]]:
    """A detection in `images`, decoded pixels to boxes, of each system by its name."""
    dtype = choose_dtype("auto", device)
    on_device = [image.to(device) for image in images]
    own = paper.ready(copy.deepcopy(model), "auto", device)
    plain = paper.twin(model).eval().requires_grad_(False).to(device)
    given = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def ours(watch: Stopwatch) -> Any:
        own.watch = watch
        return own(on_device)

    def theirs(_: Stopwatch) -> Any:
        return plain([image.float() / 255 for image in on_device])

    def theirs_given(_: Stopwatch) -> Any:
        with autocast(device, dtype):
            return given([image.float() / 255 for image in on_device])

    return {OURS: ours, PLAIN: theirs, GIVEN: theirs_given}


def training(
    paper: Paper,
    model: FasterRCNN,
    images: Sequence[Tensor],
    device: str,
    asked: Sequence[str] = (OURS, PLAIN, GIVEN),
) -> dict[str, Callable[[Stopwatch], Any]]:
    """A step of joint training on `images`, uint8 to updated weights, of each system by its name."""
    dtype = choose_dtype("auto", device)
    on_device = [image.to(device) for image in images]
    targets = [_objects(image.shape[1], image.shape[2], device) for image in images]
    systems: dict[str, Callable[[Stopwatch], Any]] = {}
    for name in asked:
        copied = copy.deepcopy(model)
        deeper = "body." if isinstance(copied, MaskRCNN) else ""
        choose_learners(copied, copied.backbone.name, "default", f"backbone.trunk.{deeper}")
        network: nn.Module = (copied if name == OURS else paper.twin(copied)).to(device).train()
        if name != PLAIN:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        systems[name] = _step(
            network, on_device, targets, device, "float32" if name == PLAIN else dtype, name != OURS
        )
    return systems


def _objects(height: int, width: int, device: str) -> dict[str, Tensor]:
    """Boxes, and an ellipse in each as its mask."""
    boxes = random_boxes(OBJECTS, height, width)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    y, x = (torch.arange(side) + 0.5 for side in (height, width))
    across = ((x - middle[:, :1]) / half[:, :1]).square()
    down = ((y - middle[:, 1:]) / half[:, 1:]).square()
    return {
        "boxes": boxes.to(device),
        "labels": torch.randint(1, len(CLASSES) + 1, (OBJECTS,), device=device),
        "iscrowd": torch.zeros(OBJECTS, dtype=torch.bool, device=device),
        "masks": (down[:, :, None] + across[:, None, :] <= 1).to(device),
    }


def _step(
    network: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    device: str,
    dtype: str,
    floats: bool,
) -> Callable[[Stopwatch], Any]:
    optimiser = make_sgd(network, RATE, Rates())

    def step(_: Stopwatch) -> None:
        given = [image.float() / 255 for image in images] if floats else images
        with autocast(device, dtype):
            losses = network(given, targets)
        optimiser.zero_grad(set_to_none=True)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _time(
    phase: str, systems: dict[str, Callable[[Stopwatch], Any]], device: str, rounds: int
) -> list[dict[str, Any]]:
    """Seconds of each system, in turns, the first turn to warm up; ours by part in turns of its own."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    parts: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        print(f"-- {phase}, round {turn} of {rounds}", file=sys.stderr, flush=True)
        for name, run in systems.items():
            taken = seconds_of(lambda run=run: run(OFF), device)  # type: ignore[misc]
            if turn:
                seconds[name].append(taken)
        if turn:
            watch = Stopwatch(device)
            systems[OURS](watch)
            for part, taken in watch.seconds.items():
                parts.setdefault(part, []).append(taken)
    rows = []
    for name, times in seconds.items():
        ratios = [theirs / own for theirs, own in zip(times, seconds[OURS], strict=True)]
        low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        rows.append(
            {
                "phase": phase,
                "system": name,
                "seconds": median(times),
                "ours_faster": median(ratios),
                "low": low,
                "high": high,
                **{f"part: {part}": median(of) for part, of in parts.items() if name == OURS},
            }
        )
    return rows


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Of one call, a GPU's work done."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _text(
    table: pd.DataFrame,
    title: str,
    model: FasterRCNN,
    backbone: str,
    size: Sequence[int],
    device: str,
    searched: float,
) -> str:
    where = f"{device_name(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    lines = [
        f"{title} with {backbone}, {size[0]}x{size[1]}, {model.proposals.after} proposals; "
        f"{where}; {commit()}",
        "",
        "| | | seconds | ours is faster by | quartiles | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        lines.append(
            f"| {row['phase']} | {row['system']} | {row['seconds']:.3f} | {row['ours_faster']:.2f} "
            f"| {row['low']:.2f} – {row['high']:.2f} "
            f"| {'' if row['peak_mib'] != row['peak_mib'] else format(row['peak_mib'], '.0f')} |"
        )
    own = table[(table.phase == "inference") & (table.system == OURS)].iloc[0]
    named = [
        f"{str(name).removeprefix('part: ')} {1000 * value:.0f}"
        for name, value in own.items()
        if str(name).startswith("part: ") and value == value
    ]
    proposing = own["part: RPN"] + own["part: top-k and NMS of proposals"]
    lines += [
        "",
        f"Ours by part, in ms: {', '.join(named)}.",
        "",
        f"Proposals: the RPN with its top-k and NMS {1000 * proposing:.0f} ms, selective search "
        f"{searched:.2f} s: {100 * proposing / searched:.1f} %.",
        "",
    ]
    return "\n".join(lines)
