"""The command of a run makes its configuration again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from benchmarks.report.commands import TARGETS, arguments_of, bench_command, command_of, differences
from stages.options import parse
from stages.store import describe

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MEASURED = (
    "bccd-squeezenet1_1-rcnn-tuned",
    "bccd-squeezenet1_1-spp-1000",
    "bccd-mobilenet_v2-fast-2000",
    "street5-mobilenet_v2-faster-alternating",
    "bccd-mobilenet_v2-torchvision-faster",
)


@pytest.mark.parametrize("name", MEASURED)
def test_the_command_gives_the_configuration(name: str) -> None:
    metrics = json.loads((RESULTS / name / "metrics.json").read_text())
    make, target, *words = shlex.split(command_of(metrics))
    presets = TARGETS[metrics["paper"]][1]
    assert (make, target) == ("make", TARGETS[metrics["paper"]][0])
    arguments = []
    for word in words:
        variable, _, value = word.partition("=")
        arguments += shlex.split(value) if variable == "ARGS" else [f"--{variable.lower()}", value]
    small = presets["small"]
    options, config = parse(target, type(small), presets, [*arguments, "--device", "cpu"])
    assert (options.preset, options.tag) == (metrics["preset"], metrics["tag"])
    left = [name for name, _ in differences(describe(config), metrics["config"])]
    assert [name for name in left if not name.endswith("dtype")] == []


def test_a_run_of_the_default_needs_no_more() -> None:
    config = json.loads(json.dumps(describe(TARGETS["fast"][1]["small"])))
    metrics = {"paper": "fast", "preset": "small", "tag": "", "config": config}
    assert command_of(metrics) == "make fast"
    # The device decided on the type.
    config["train"]["sgd"]["dtype"] = "bfloat16"
    assert command_of(metrics) == "make fast"
    config["data"]["name"] = "my data/$x"
    assert command_of(metrics) == "make fast DATA='my data/$x'"  # make takes it as typed


def test_words_of_each_kind_of_value() -> None:
    assert arguments_of("train.lr_steps", [5, 7]) == ["--train.lr-steps", "5", "7"]
    assert arguments_of("train.mirror", False) == ["--train.no-mirror"]
    assert arguments_of("masks", True) == ["--masks"]
    assert arguments_of("top", None) == ["--top", "None"]


def test_the_harness_as_it_was_called() -> None:
    assert bench_command(["--runs", "runs", "--device", "auto"]) == "make bench"
    called = ["--runs", "my $x", "--device", "cpu", "--images", "2", "--rates"]
    line = "make bench RUNS='my $x' DEVICE=cpu ARGS='--images 2 --rates'"
    assert bench_command(called) == line
