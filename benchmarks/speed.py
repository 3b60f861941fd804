"""`make speed`: the papers' speeds on this machine, from their networks with random weights.

Detection by part and a training step of R-CNN, SPPnet and Fast R-CNN, beside what arithmetic alone
would give and what the papers report. The systems take turns; medians and quartiles are given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NoReturn, get_args

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.arithmetic import counting
from benchmarks.papers import FC_SHARE, IMAGE_CENTRIC_GAIN, TABLE_4
from benchmarks.training_steps import ROIS, step_groups
from benchmarks.untrained import detectors, distinct, random_boxes, random_image
from fast_rcnn.config import TrainConfig as FastTrainConfig
from rcnn_v1.config import FineTuneConfig
from spp_net.config import FineTuneConfig as SPPFineTuneConfig
from spp_net.network import check_backbone
from stages.backbones.config import Name
from stages.device import choose_device, choose_dtype
from stages.errors import InputError
from stages.machine import commit, device_name
from stages.stopwatch import OFF, Stopwatch

PARTS = ("warp", "conv", "pool", "fc6", "fc7", "outputs", "NMS", "rest")
TRAINING_IMAGES = 5011  # VOC 2007's trainval
VGG16_CROPS = 24  # a step of R-CNN's with VGG16 (released code); 128 with AlexNet


@dataclass
class Timed:
    """A system that was timed.

    Attributes:
        phase: "detection" or "training".
        samples: of each repeat, `seconds` of the whole and of its parts.
        part: what was timed of the whole, in words; empty: all.
        multiply_adds: of the whole.
    """

    network: Name
    phase: str
    system: str
    part: str = ""
    samples: list[dict[str, float]] = field(default_factory=list)
    multiply_adds: float = 0.0

    def middle(self, part: str = "seconds") -> float:
        """Median seconds."""
        return median(sample[part] for sample in self.samples)

    def gains(self, other: Timed) -> list[float]:
        """How many times faster than the other, in each repeat."""
        pairs = zip(other.samples, self.samples, strict=True)
        return [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def speed(arguments: Sequence[str]) -> None:
    """Time, print, and write `<runs>/report/speed.csv` and `speed.md`.

    Raises:
        InputError: an option is not one of the command's, or out of its range.
    """
    options = _parse(arguments)
    device = choose_device(options.device)
    cases = [_Case(name, device, options) for name in options.networks]
    about = {
        "device": device_name(device),
        "dtype": choose_dtype("auto", device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }
    blocks = [
        f"{about['device']}; {about['threads']} threads, {about['dtype']}, torch {about['torch']}"
    ]
    rows: list[dict[str, Any]] = []
    for case in cases:
        timed = [*case.detection(), *case.training()]
        rows += [{**row, **case.about(), **about} for row in _rows(timed)]
        blocks += case.report(timed)
    report = options.runs / "report"
    report.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(report / "speed.csv", index=False, float_format="%.6g")
    print("\n\n".join(_text(block) for block in blocks))
    (report / "speed.md").write_text("\n\n".join(_markdown(block) for block in blocks) + "\n")
    print(f"{report / 'speed.csv'}\n{report / 'speed.md'}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m benchmarks speed", description=__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("runs"))
    add("--device", default="auto")
    add("--networks", nargs="+", default=["alexnet", "vgg16"], choices=get_args(Name))
    add("--repeats", type=int, default=3, help="of each measurement")
    add("--proposals", type=int, default=2000)
    add("--size", type=int, nargs=2, default=(600, 1000), help="the image's height and width")
    add("--crops", type=int, help="of R-CNN's proposals, so many are timed (CPU: 128, CUDA: all)")
    add(
        "--images",
        type=int,
        help="of the RoI-centric step's 128, so many are timed (CPU: 2, CUDA: 16)",
    )
    add("--one-scale", action="store_true", help="leave out SPPnet with five scales")
    options = parser.parse_args(arguments)
    for what in ("repeats", "proposals", "crops", "images"):
        value = getattr(options, what)
        if value is not None and value < 1:
            raise InputError(f"--{what} {value}: takes 1 or more")
    if min(options.size) < 32:
        raise InputError(f"--size {options.size[0]} {options.size[1]}: takes 32 or more")
    if options.images is not None and not 2 <= options.images <= ROIS:
        raise InputError(f"--images {options.images}: takes 2 to {ROIS}")
    for name in options.networks:
        check_backbone(name)
    return options


class _Case:
    """One network: what is timed with it, and the tables."""

    def __init__(self, name: Name, device: str, options: argparse.Namespace) -> None:
        self.name, self.device, self.repeats = name, device, options.repeats
        self.size: tuple[int, int] = tuple(options.size)
        on_gpu = device == "cuda"
        self.proposals = options.proposals
        self.crops = min(options.crops or (options.proposals if on_gpu else 128), options.proposals)
        self.images = options.images or (16 if on_gpu else 2)
        self.scales = not options.one_scale
        self.boxes = random_boxes(self.proposals, *self.size)

    def about(self) -> dict[str, Any]:
        """What was looked at, for the CSV."""
        return {
            "repeats": self.repeats,
            "height": self.size[0],
            "width": self.size[1],
            "proposals": self.proposals,
            "distinct_proposals": distinct(self.boxes, 16),
        }

    def detection(self) -> list[Timed]:
        """Every detector, without proposals; the same image and boxes for all, in turns."""
        image, timed, made = random_image(*self.size), [], []
        for system, make in detectors(self.name, self.device, min(self.size), self.scales).items():
            _say(f"{self.name}: detection, {system}")
            crops = self.crops if system == "R-CNN" else self.proposals
            part = "" if crops == self.proposals else f"{crops} of {self.proposals:,} crops"
            detector = make()
            with counting(detector) as count:  # the first time does not count, but warms up
                _detect(detector, image, self.boxes[:crops], self.device)
            scale = self.proposals / crops
            timed.append(Timed(self.name, "detection", system, part))
            timed[-1].multiply_adds = count.multiply_adds * scale
            made.append((detector, self.boxes[:crops], scale))
        for repeat in range(self.repeats):
            _say(f"{self.name}: detection, turn {repeat + 1} of {self.repeats}")
            for (detector, boxes, scale), system_ in zip(made, timed, strict=True):
                times = _detect(detector, image, boxes, self.device)
                # As many boxes of a class meet in suppression, however many there were before.
                parts = {p: times[p] * (1 if p == "NMS" else scale) for p in PARTS}
                system_.samples.append({"seconds": sum(parts.values()), **parts})
        return timed

    def training(self) -> list[Timed]:
        """A step of each paper's training."""
        timed = []
        for group in step_groups(self.name, self.device, self.size, min(self.size), self.images):
            _say(f"{self.name}: training, {group[-1].name}")
            clocks = [step.times(self.device) for step in group]
            systems = [Timed(self.name, "training", step.name, step.part) for step in group]
            for repeat in range(-1, self.repeats):
                for clock, system in zip(clocks, systems, strict=True):
                    times = next(clock)
                    if repeat >= 0:  # the one before warms up
                        system.samples.append(times)
            timed += systems
        return timed

    def report(self, timed: Sequence[Timed]) -> list[Any]:
        """Paragraphs, and tables as data frames."""
        height, width = self.size
        different = distinct(self.boxes, 16)
        detection = [t for t in timed if t.phase == "detection"]
        training = [t for t in timed if t.phase == "training"]
        r_cnn, steps = detection[0], [t.middle() for t in training]
        centric = median(training[-1].gains(training[-2]))
        paragraphs = [
            f"{self.name}: detection without proposals, seconds an image of {height}x{width} with "
            f"{self.proposals:,} proposals ({different:,} different on the map, which Fast R-CNN scores); "
            f"medians of {self.repeats} [quartiles]",
            pd.DataFrame([_detection_row(t, r_cnn) for t in detection]),
        ]
        if r_cnn.part:
            paragraphs.append(f"R-CNN: {r_cnn.part} timed, scaled: its cost is linear in crops.")
        paragraphs += [
            f"{self.name}: a training step of {ROIS} RoIs, forward, backward and update, in seconds",
            pd.DataFrame([_training_row(t) for t in training]),
            f"With the convolutions learning, RoIs of 128 images cost {centric:.0f} times what RoIs of 2 "
            f"cost (the paper: about {IMAGE_CENTRIC_GAIN:.0f}). Without them SPPnet's step takes "
            f"{steps[1]:.2g} s, and with them {steps[2]:.3g} s: why it froze them.",
            f"{self.name}: training on VOC 2007 at the papers' numbers of steps, reckoned from the above",
            pd.DataFrame(self._hours(detection, training)),
        ]
        return paragraphs

    def _hours(self, detection: Sequence[Timed], training: Sequence[Timed]) -> list[dict[str, str]]:
        """Fine-tuning and one pass for the features of each training image; SVMs are left out."""
        seconds = {t.system: t.middle() for t in detection}
        step, fc_step, _, fast_step = (t.middle() for t in training)
        crops = VGG16_CROPS if self.name == "vgg16" else ROIS
        spp = "SPPnet, 5 scales" if self.scales else "SPPnet, 1 scale"
        hours = {
            "R-CNN": (
                FineTuneConfig().sgd.iterations * step * crops / ROIS,
                TRAINING_IMAGES * seconds["R-CNN"],
            ),
            spp: (SPPFineTuneConfig().sgd.iterations * fc_step, TRAINING_IMAGES * seconds[spp]),
            "Fast R-CNN": (FastTrainConfig().sgd.iterations * fast_step, 0.0),
        }
        rows = []
        for system, (tuning, features) in hours.items():
            paper = TABLE_4.get((self.name, system))
            rows.append(
                {
                    "system": system,
                    "fine-tuning h": f"{tuning / 3600:.1f}",
                    "features h": f"{features / 3600:.1f}",
                    "h": f"{(tuning + features) / 3600:.1f}",
                    "faster": f"{sum(hours['R-CNN']) / (tuning + features):.1f}x",
                    "paper h": f"{paper.train:g}" if paper and paper.train else "",
                    "paper": f"{paper.train_gain:g}x" if paper and paper.train_gain else "",
                }
            )
        return rows


# ---------------------------------------------------------------------- timing


def _detect(detector: Any, image: Tensor, boxes: Tensor, device: str) -> dict[str, float]:
    """Seconds of each of PARTS: from an image and boxes in memory to detections there."""
    watch = Stopwatch(device)
    seconds = None
    if device == "cuda":
        # To look at the parts takes time: the whole is measured without, and is what counts.
        detector.watch = OFF
        seconds = _clock(detector, image, boxes)
    detector.watch = watch
    head = detector.backbone.head
    with _watched(head.fc6, watch, "fc6"), _watched(head.fc7, watch, "fc7"):
        with_parts = _clock(detector, image, boxes)
    detector.watch = OFF
    of = watch.seconds
    parts = {
        "warp": of["warp"],
        "conv": of["convolutions"],
        "pool": of["pooling"],
        "fc6": of["fc6"],
        "fc7": of["fc7"],
        "outputs": of["head"] - of["fc6"] - of["fc7"] + of["SVMs and boxes"] + of["boxes"],
        "NMS": of["NMS"],
    }
    parts["rest"] = with_parts - sum(parts.values())
    shrink = 1.0 if seconds is None else seconds / with_parts
    return {part: value * shrink for part, value in parts.items()}


def _clock(detector: Any, image: Tensor, boxes: Tensor) -> float:
    started = time.perf_counter()
    detector([image], proposals=[boxes])[0]["boxes"].cpu()
    return time.perf_counter() - started


@contextmanager
def _watched(layer: nn.Module, watch: Stopwatch, part: str) -> Iterator[None]:
    """Each of the layer's calls is on the watch, under this name."""
    running: list[Any] = []

    def start(*_: Any) -> None:
        running.append(watch(part))
        running[-1].__enter__()

    def stop(*_: Any) -> None:
        running.pop().__exit__(None, None, None)

    handles = [layer.register_forward_pre_hook(start), layer.register_forward_hook(stop)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _say(what: str) -> None:
    print(f"-- {what}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------- tables


def _rows(timed: Sequence[Timed]) -> Iterator[dict[str, Any]]:
    """The CSV's: one for each system and part; `part` "seconds" is the whole."""
    r_cnn = timed[0]
    for system in timed:
        paper = TABLE_4.get((system.network, system.system))
        for part in system.samples[0]:
            low, high = _quartiles([sample[part] for sample in system.samples])
            row: dict[str, Any] = {
                "network": system.network,
                "phase": system.phase,
                "system": system.system,
                "part": "whole" if part == "seconds" else part,
                "seconds": system.middle(part),
                "seconds_q1": low,
                "seconds_q3": high,
                "timed": system.part or "all",
            }
            if part == "seconds" and system.phase == "detection":
                gains = system.gains(r_cnn)
                row["times_faster"] = median(gains)
                row["times_faster_q1"], row["times_faster_q3"] = _quartiles(gains)
                row["multiply_adds"] = system.multiply_adds
                row["times_fewer_multiply_adds"] = r_cnn.multiply_adds / system.multiply_adds
                row["paper_seconds"] = paper.test if paper else None
                row["paper_times_faster"] = paper.test_gain if paper else None
            yield row


def _detection_row(timed: Timed, r_cnn: Timed) -> dict[str, str]:
    whole, gains = timed.middle(), timed.gains(r_cnn)
    paper = TABLE_4.get((timed.network, timed.system))
    share = FC_SHARE.get((timed.network, timed.system))
    fc = 100 * median((s["fc6"] + s["fc7"]) / s["seconds"] for s in timed.samples)
    return {
        "system": timed.system,
        "s": _spread([s["seconds"] for s in timed.samples], 3),
        **{part: f"{timed.middle(part):.3f}" for part in PARTS},
        "fc": f"{fc:.0f} %",
        "paper fc": f"{share:.0f} %" if share else "",
        "G mult-adds": f"{timed.multiply_adds / 1e9:,.0f}",
        "a second": f"{timed.multiply_adds / whole / 1e9:,.0f}",
        "faster": _spread(gains, 1),
        "arithmetic": f"{r_cnn.multiply_adds / timed.multiply_adds:.1f}",
        "paper s": f"{paper.test:g}" if paper else "",
        "paper": f"{paper.test_gain:g}" if paper else "",
    }


def _training_row(timed: Timed) -> dict[str, str]:
    return {
        "step": timed.system,
        "s": _spread([s["seconds"] for s in timed.samples], 2),
        **{part: f"{timed.middle(part):.2f}" for part in ("conv", "fc", "update")},
        "ms a RoI": f"{1000 * timed.middle() / ROIS:.1f}",
        "convolutions timed": f"{timed.part}, scaled" if timed.part else "all",
    }


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def _spread(values: Sequence[float], digits: int) -> str:
    low, high = _quartiles(values)
    return f"{median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _text(block: str | pd.DataFrame) -> str:
    """A paragraph, or a table with aligned columns."""
    if isinstance(block, str):
        return block
    cells = [list(block.columns), *block.to_numpy().tolist()]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            value.ljust(width) if column == 0 else value.rjust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _markdown(block: str | pd.DataFrame) -> str:
    if isinstance(block, str):
        return block
    rules = ["---", *["--:"] * (len(block.columns) - 1)]
    lines = [list(block.columns), rules, *block.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
