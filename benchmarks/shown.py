"""What of a detector's findings in an image people are shown, and its picture.

n detections in an image of height H and width W, of K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.detectors import Run
from stages.errors import InputError, one_line
from stages.pictures import draw_boxes, tint
from stages.sheet import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NAMED = 5  # classes that are never shown


@dataclass(frozen=True, eq=False)
class Shown:
    """Detections in an image, best first.

    Attributes:
        boxes: float32 [n, 4] xyxy; labels: int64 [n], from 1; scores: float32 [n].
        masks: bool [n, H, W]; None: the detector gives none.
        hidden: how many more there are, of too low a score.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None
    hidden: int = 0

    @property
    def counted(self) -> str:
        """How many, as people write it."""
        return f"{len(self.boxes)} detection{'' if len(self.boxes) == 1 else 's'}"

    def panel(self, pixels: np.ndarray, caption: str, classes: Sequence[str]) -> Panel:
        """Drawn on their image, uint8 [H, W, 3]."""
        return panel(pixels, caption, self.boxes, self.labels, classes, self.scores, self.masks)


def least_scores(run: Run, threshold: float | None) -> np.ndarray:
    """From which score on a class's detections are shown, float64 [K].

    Args:
        threshold: one for all; None: the run's own, `stages.evaluation.threshold`.

    Raises:
        InputError: the run has none.
    """
    classes, usual = run.metrics["classes"], run.metrics.get("usual_scores")
    if threshold is not None:
        return np.full(len(classes), threshold)
    if usual is None:
        raise InputError(
            f"{run.folder / 'metrics.json'}: no usual_scores, as an older version's; "
            "make detect takes ARGS='--threshold 0.5'"
        )
    return np.array([usual.get(name, np.inf) for name in classes])


@torch.inference_mode()
def detect_in(pixels: np.ndarray, model: Any, least: np.ndarray) -> Shown:
    """What a model finds in uint8 [H, W, 3] and is shown of it: what reaches `least_scores`."""
    (found,) = model([torch.from_numpy(pixels).permute(2, 0, 1)])
    boxes, labels, scores = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
    order = np.argsort(-scores, kind="stable")
    rows = order[scores[order] >= least[labels[order] - 1]]
    # Before they are moved: a hundred masks of a photograph are a gigabyte.
    masks = found["masks"][torch.from_numpy(rows)].cpu().numpy() if "masks" in found else None
    return Shown(boxes[rows], labels[rows], scores[rows], masks, len(scores) - len(rows))


def said_of_hidden(hidden: int, classes: Sequence[str], least: np.ndarray) -> str:
    """What is not shown, in a line; "": nothing.

    Args:
        hidden: detections below `least`, float64 [K], see `least_scores`.
    """
    said = []
    if hidden:
        said.append(f"{hidden} detection{'' if hidden == 1 else 's'} below the class's score")
    never = [name for name, score in zip(classes, least, strict=True) if np.isinf(score)]
    if never:
        named = one_line(", ".join(never[:NAMED])) + (", .." if len(never) > NAMED else "")
        said.append(
            f"anything of {len(never)} class{'' if len(never) == 1 else 'es'} without a score (none was "
            f"found in the test split): {named}"
        )
    return f"not shown: {'; '.join(said)} (ARGS='--threshold S': all from S on)" if said else ""


def panel(
    pixels: np.ndarray,
    caption: str,
    boxes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    scores: np.ndarray | None = None,
    masks: np.ndarray | None = None,
) -> Panel:
    """Boxes on their image, the surest on top, masks tinted; without scores objects in any order."""
    order = np.arange(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    if masks is not None:
        pixels = tint(pixels, masks[order[::-1]], labels[order[::-1]])

    def draw(axes: Axes) -> None:
        of_each = None if scores is None else scores[order]
        draw_boxes(axes, boxes[order], labels[order], classes, of_each)

    return Panel.of(pixels, caption, draw)
