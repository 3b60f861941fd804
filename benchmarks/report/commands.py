"""The commands that make a run again, from its `metrics.json`, and a report, from how it was called."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.rivals import config as rival
from benchmarks.rivals.detector import KINDS
from benchmarks.rivals.yolov3 import config as yolov3
from benchmarks.rivals.yolov3.detector import YOLOV3
from fast_rcnn import config as fast
from faster_rcnn import config as faster
from mask_rcnn import config as mask
from rcnn_v1 import config as rcnn
from spp_net import config as spp
from stages.store import describe

# What `make` calls it, and its presets.
TARGETS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "rcnn": ("rcnn", rcnn.PRESETS),
    "spp": ("spp", spp.PRESETS),
    "fast": ("fast", fast.PRESETS),
    "faster": ("faster", faster.PRESETS),
    "mask": ("mask", mask.PRESETS),
    YOLOV3: ("yolov3", yolov3.PRESETS),
    **dict.fromkeys(KINDS, ("rival", rival.PRESETS)),
}
# Options with a variable of make's own.
VARIABLES = {"data.name": "DATA", "backbone.name": "BACKBONE", "backbone.weights": "WEIGHTS"}


def command_of(metrics: Mapping[str, Any]) -> str:
    """`make` with what differs from the preset: `make fast DATA=street5 TAG=short ARGS='--top 1000'`.

    A setting that today's preset does not know is left out, and so is a number type that the
    device decided.
    """
    target, presets = TARGETS[metrics["paper"]]
    parts = ["make", target]
    preset = presets.get(metrics["preset"])
    changes = dict(differences(describe(preset), metrics["config"])) if preset else {}
    kind = KINDS.get(metrics["paper"], "faster")
    if kind != "faster":
        changes["kind"] = kind  # which earlier runs said in another way
    for option, variable in VARIABLES.items():
        if option in changes:
            parts.append(f"{variable}={shlex.quote(str(changes.pop(option)))}")
    if metrics["preset"] != "small":
        parts.append(f"PRESET={shlex.quote(metrics['preset'])}")
    if metrics.get("tag"):
        parts.append(f"TAG={shlex.quote(metrics['tag'])}")
    arguments = [word for option, value in changes.items() for word in arguments_of(option, value)]
    if arguments:
        parts.append(f"ARGS={shlex.quote(shlex.join(arguments))}")
    return " ".join(parts)


def bench_command(arguments: Sequence[str]) -> str:
    """`make bench` as `python -m benchmarks` was called: `make bench RUNS=mine ARGS='--images 4'`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--device", default="auto")
    options, rest = parser.parse_known_args(list(arguments))
    parts = ["make", "bench"]
    if options.runs != "runs":
        parts.append(f"RUNS={shlex.quote(options.runs)}")
    if options.device != "auto":
        parts.append(f"DEVICE={shlex.quote(options.device)}")
    if rest:
        parts.append(f"ARGS={shlex.quote(shlex.join(rest))}")
    return " ".join(parts)


def differences(preset: Any, config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Options, as `rpn.anchors.sizes`, and their values where a configuration differs from a preset.

    Args:
        preset, config: as `describe` has them.
    """
    if isinstance(preset, dict) and isinstance(config, dict):
        for key, value in config.items():
            if key in preset and key != "is":
                yield from differences(preset[key], value, f"{name}.{key}".lstrip("."))
    elif preset != config and not (name.endswith("dtype") and preset == "auto"):
        yield name, config


def arguments_of(option: str, value: Any) -> list[str]:
    """The words of a command line that give a field its value."""
    path, _, field = option.replace("_", "-").rpartition(".")
    path = f"--{path}." if path else "--"
    if isinstance(value, bool):
        return [f"{path}{field}" if value else f"{path}no-{field}"]
    values = value if isinstance(value, list) else [value]
    return [f"{path}{field}", *map(str, values)]
