"""Numbers that no run can have: refused with the option's name, and all that presets have is taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from benchmarks.report.commands import TARGETS
from stages.errors import InputError
from stages.numbers import check_numbers


@dataclass(frozen=True)
class Inner:
    sizes: tuple[float, ...] = (16.0, 32.0)
    lr_steps: tuple[int, ...] = (5,)
    warmup: int = 3
    easy_score: float = -1.2
    iou: float = 0.5
    context: float = 0.07


@dataclass(frozen=True)
class Outer:
    top: int | None = None
    test: tuple[int, ...] = (600,)
    flag: bool = False
    name: str = ""
    inner: Inner = field(default_factory=Inner)


USUAL = Outer()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"top": 0}, "--top 0: takes 1 or more"),
        ({"top": -5}, "--top -5: takes 1 or more"),
        ({"test": (600, 0)}, "--test 0: takes 1 or more"),
        ({"test": ()}, "--test: needs a value"),
        ({"inner": Inner(sizes=(16.0, 0.0))}, "--inner.sizes 0.0: takes more than 0"),
        ({"inner": Inner(warmup=-1)}, "--inner.warmup -1: takes 0 or more"),
        ({"inner": Inner(iou=-0.1)}, "--inner.iou -0.1: takes 0 or more"),
        ({"inner": Inner(iou=float("nan"))}, "--inner.iou nan: is not finite"),
        ({"inner": Inner(context=0.5)}, "--inner.context 0.5: takes less than 0.5"),
        ({"top": 10**400}, f"--top {10**400}: is no number of anything"),
        ({"inner": Inner(easy_score=float("-inf"))}, "--inner.easy-score -inf: is not finite"),
    ],
)
def test_what_no_run_can_have(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as caught:
        check_numbers(replace(USUAL, **changes), USUAL)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "inner", [Inner(), Inner(lr_steps=(), warmup=0, iou=0.0), Inner(easy_score=-9.0)]
)
def test_what_a_run_can_have(inner: Inner) -> None:
    check_numbers(replace(USUAL, top=1, flag=True, name="-1", inner=inner), USUAL)


@pytest.mark.parametrize("paper", TARGETS)
def test_every_preset(paper: str) -> None:
    for preset in TARGETS[paper][1].values():
        for usual in TARGETS[paper][1].values():
            check_numbers(preset, usual)
