"""What `make bench` measured on other machines: the tables kept in `benchmarks/results/machines/`.

A machine without a GPU shows a GPU's rows all the same. To add a machine, copy its
`runs/report/benchmark.csv` there under a name that tells what it is.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.report.table import PART
from stages.errors import InputError, one_line

FOLDER = Path(__file__).parents[1] / "results" / "machines"
NEEDED = (
    *("title", "label", "paper", "backbone", "device", "map", "map_low", "map_high"),
    *("seconds", "seconds_without_proposals", "images_per_second", "best_batch"),
    *("train_seconds", "train_disk_mib", "peak_memory_mib", "peak_cuda_mib"),
)


def elsewhere(folder: Path = FOLDER) -> pd.DataFrame:
    """Every row of every table there, `device` saying which machine's; without any, an empty table.

    Raises:
        InputError: a file is no such table.
    """
    tables = []
    for path in sorted(folder.glob("*.csv")):
        try:
            table = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable: {one_line(error)}") from None
        missing = [name for name in NEEDED if name not in table]
        if missing:
            raise InputError(f"{path}: is no benchmark.csv: has no column {missing[0]}")
        tables.append(table)
    if not tables:
        return pd.DataFrame(columns=list(NEEDED))
    rows = pd.concat(tables, ignore_index=True)
    return rows.loc[:, [name for name in rows if not str(name).startswith(PART)]]
