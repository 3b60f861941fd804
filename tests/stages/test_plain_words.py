"""A wrong option is answered in words that a person reads at the first go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fast_rcnn.config import PRESETS, Config
from stages.errors import InputError
from stages.options import parse
from stages.plain_words import plain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--backbone", "resnet"],
            "--backbone.name resnet: takes tiny, squeezenet1_1, mobilenet_v2, alexnet, vgg16, resnet18, "
            "resnet50; did you mean resnet50?",
        ),
        (
            ["--loss.box", "smooth"],
            "--loss.box smooth: takes smooth_l1, l2; did you mean smooth_l1?",
        ),
        (["--data.negatives", "maybe"], "--data.negatives maybe: takes auto, use, skip"),
        (["--train.sgd.iterations", "x"], "--train.sgd.iterations x: takes a whole number"),
        (["--train.sgd.iterations", "1.5"], "--train.sgd.iterations 1.5: takes a whole number"),
        (["--train.sgd.lr", "fast"], "--train.sgd.lr fast: takes a number"),
        (["--top", "ten"], "--top ten: takes a whole number or None"),
        (["--scale.train", "a"], "--scale.train a: takes whole numbers, blanks between them"),
        (["--train.sgd.lr"], "--train.sgd.lr: needs a value"),
        (["--sampling.background-iou", "0.1"], "--sampling.background-iou: needs 2 values"),
    ],
)
def test_a_wrong_value(arguments: Sequence[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse("fast_rcnn", Config, PRESETS, ["--runs", str(tmp_path / "runs"), *arguments])
    assert caught.value.line == said


def test_what_is_of_another_kind_stays_without_its_frame() -> None:
    assert plain("╭─ Parsing error ─╮\n│ Something else │\n╰──╯\nFor full helptext, run x") == (
        "Something else"
    )
