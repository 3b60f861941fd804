"""What the papers of the family and their rivals published: accuracy, and speed with its device.

The numbers are in `stages/published/results.csv`; `published.csv`, beside this file, says which of them are
drawn, and which speed belongs to which accuracy. A row without a device has none that its source
tells, or no speed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.published.figures import Result, results

FILE = Path(__file__).with_suffix(".csv")


def published() -> pd.DataFrame:
    """The table.

    Returns:
        a row a published number: `paper`, `system`, `backbone`, `train`, `test`, `metric`, `value`
        (percent), `seconds` an image (nan: not given; from images a second where that was
        printed), `proposals_timed` ("yes", "no", "": no speed), `device` ("": not given), `source`.
    """
    with FILE.open(newline="") as file:
        return pd.DataFrame([_point(row) for row in csv.DictReader(file)])


def _point(row: dict[str, str]) -> dict[str, object]:
    """A row of the table, from one of `published.csv`."""
    speed, label = row.pop("speed"), row.pop("label")
    accuracy = the_one(results(), **row)
    point: dict[str, object] = {
        **row,
        "system": label,
        "value": accuracy.value,
        "seconds": float("nan"),
        "proposals_timed": "",
        "device": "",
        "source": accuracy.source,
    }
    if speed:
        of = {name: row[name] for name in ("paper", "system", "backbone")}
        timed = the_one(results(), metric=speed, **of)
        if timed.source != accuracy.source:
            point["source"] = f"{accuracy.source}; speed: {timed.source}"
        point["seconds"] = 1 / timed.value if timed.unit == "images/s" else timed.value
        point["proposals_timed"] = "no" if speed == "test_time_without_proposals" else "yes"
        point["device"] = timed.device
    return point


def the_one(rows: Sequence[Result], **wanted: str) -> Result:
    """The row whose columns are as wanted.

    Raises:
        KeyError: there is none, or there are several.
    """
    found = [
        row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
    ]
    if len(found) != 1:
        raise KeyError(f"{len(found)} results of {wanted}")
    return found[0]
