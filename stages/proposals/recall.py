"""How much of the ground truth the proposals cover.

N images, G objects, P proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from stages.data.records import Record
from stages.proposals.cache import Proposals

COUNTS = (300, 1000, 2000, None)  # best-ranked proposals an image; None: all


def best_overlaps(records: Sequence[Record], proposals: Proposals, top: int | None) -> np.ndarray:
    """For each object that is not difficult, its highest IoU with a proposal: float32 [G]."""
    best = []
    for record in records:
        boxes = torch.from_numpy(record.boxes[~record.difficult])
        proposed = torch.from_numpy(proposals.of(record, top))
        if len(proposed) == 0:
            best.append(torch.zeros(len(boxes)))
        elif len(boxes):
            best.append(box_iou(boxes, proposed).amax(dim=1))
    return torch.cat(best).numpy() if best else np.zeros(0, np.float32)


def average_recall(best: np.ndarray) -> float:
    """Recall averaged over IoU 0.5 to 1, in percent (Hosang et al., "What makes for effective proposals?").

    Its area in closed form, not a sum over thresholds. nan where there is no object.

    Args:
        best: of `best_overlaps`.
    """
    return float(200 * np.maximum(best - 0.5, 0).mean()) if len(best) else float("nan")


def measure_recall(records: Sequence[Record], proposals: Proposals) -> list[dict[str, Any]]:
    """Rows of recall in percent at IoU 0.5 and 0.7, and the mean best overlap, by proposals an image."""
    if not records:
        return []
    available = np.mean([len(proposals.of(record)) for record in records])
    rows = []
    for top in COUNTS:
        best = best_overlaps(records, proposals, top)
        if len(best) == 0:
            continue
        rows.append(
            {
                "proposals": top if top is not None else "all",
                "found_on_average": round(float(available), 1),
                "recall_50": round(100 * float((best >= 0.5).mean()), 2),
                "recall_70": round(100 * float((best >= 0.7).mean()), 2),
                "mean_best_overlap": round(100 * float(best.mean()), 2),
            }
        )
    return rows


def recall_table(split: str, rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{split}: proposals  recall@0.5  recall@0.7  mean best overlap"]
    lines += [
        f"{'':{len(split) + 2}}{row['proposals']!s:>9}  {row['recall_50']:>10.1f}"
        f"  {row['recall_70']:>10.1f}  {row['mean_best_overlap']:>17.1f}"
        for row in rows
    ]
    return "\n".join(lines)
