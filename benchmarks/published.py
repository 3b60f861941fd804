"""What the papers of the family and their rivals published: accuracy, and speed with its device.

`published.csv`, beside this file, has a row a number, with the table or section it is from. A speed
is as it was printed, in seconds or in images a second; a row without a device has none that its
source tells, or no speed.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_suffix(".csv")


def published() -> pd.DataFrame:
    """The table.

    Returns:
        a row a published number: `paper`, `system`, `backbone`, `train`, `test`, `metric`, `value`
        (percent), `seconds` an image (nan: not given; from images a second where that was
        printed), `proposals_timed` ("yes", "no", "": no speed), `device` ("": not given), `source`.
    """
    texts = ["paper", "system", "backbone", "train", "test", "metric", "device", "source"]
    table = pd.read_csv(FILE, dtype=dict.fromkeys([*texts, "proposals_timed"], str))
    table[[*texts, "proposals_timed"]] = table[[*texts, "proposals_timed"]].fillna("")
    table["seconds"] = table["seconds"].fillna(1 / table.pop("images_per_second"))
    return table
