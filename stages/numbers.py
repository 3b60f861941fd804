"""Numbers that no run can be made with, refused before anything is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from stages.errors import InputError

# Whole numbers that may be 0 though they usually are not; all others count or measure something.
MAY_BE_0 = {
    *("iterations", "warmup", "lr_steps", "seed", "held_out", "clutter", "convs", "min_side"),
    *("positives", "backgrounds", "retrain_after", "mined_bytes", "points", "holdout_seed"),
}
# Broken numbers that may not be 0.
ABOVE_0 = {"sizes", "ratios", "box_std", "canonical_side", "lr_divisor", "most_megapixels"}
# Parts of a side, of which two must leave something.
BELOW_HALF = {"context"}
MAY_BE_EMPTY = {"lr_steps"}
LARGEST = 2**63 - 1  # of a whole number, for the libraries that are given it
# Options whose own command says what they take.
CHECKED_ELSEWHERE = {"width"}


def check_numbers(config: Any, usual: Any) -> None:
    """Refuse what is not finite, is negative, is 0 or no number at all where `usual` shows it cannot be.

    Args:
        config, usual: of the same dataclass, whose fields may be others.

    Raises:
        InputError: naming the option.
    """
    usual_ones = dict(option_values(usual))
    for name, value in option_values(config):
        usually = usual_ones.get(name)
        if name in CHECKED_ELSEWHERE:
            continue
        field = name.rpartition(".")[2].replace("-", "_")
        values = value if isinstance(value, tuple) else (value,)
        usual_values = usually if isinstance(usually, tuple) else (usually,)
        if not values and usual_values and field not in MAY_BE_EMPTY:
            raise InputError(f"--{name}: needs a value")
        for number in values:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if isinstance(number, int) and abs(number) > LARGEST:
                raise InputError(f"--{name} {number}: is no number of anything")
            if not math.isfinite(number):
                raise InputError(f"--{name} {number}: is not finite")
            negatives = any(isinstance(one, int | float) and one < 0 for one in usual_values)
            if field in BELOW_HALF and number >= 0.5:
                raise InputError(f"--{name} {number}: takes less than 0.5")
            if field in ABOVE_0 and number <= 0:
                raise InputError(f"--{name} {number}: takes more than 0")
            if isinstance(number, int) and number <= 0 and field not in MAY_BE_0:
                raise InputError(f"--{name} {number}: takes 1 or more")
            if number < 0 and not negatives:
                raise InputError(f"--{name} {number}: takes 0 or more")


def option_values(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a configuration that is an option of the command line: its name there, its value."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            yield from option_values(value, f"{name}.")
        else:
            yield name, value
