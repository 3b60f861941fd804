"""How a detector looks in every figure: the same colour and marker for a paper, and its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.rivals.detector import FASTER, MASK, RETINANET, SSD
from benchmarks.rivals.yolov3.detector import YOLOV3


@dataclass(frozen=True)
class Look:
    """A detector's colour, marker and dashes, as matplotlib writes them."""

    colour: str
    marker: str
    dashes: str = "-"


TITLES = {
    "rcnn": "R-CNN",
    "spp": "SPPnet",
    "fast": "Fast R-CNN",
    "faster": "Faster R-CNN",
    "mask": "Mask R-CNN",
    YOLOV3: "YOLOv3",
    SSD: "torchvision's SSD",
    RETINANET: "torchvision's RetinaNet",
    FASTER: "torchvision's Faster R-CNN",
    MASK: "torchvision's Mask R-CNN",
}

# Okabe and Ito's; not their yellow, which is lost on white paper. The last three are Tol's.
LOOKS = {
    "rcnn": Look("#E69F00", "o"),
    "spp": Look("#56B4E9", "s"),
    "fast": Look("#009E73", "D"),
    "faster": Look("#0072B2", "^"),
    "mask": Look("#D55E00", "v"),
    YOLOV3: Look("#882255", "h"),
    SSD: Look("#999933", "*"),
    RETINANET: Look("#332288", "p"),
    FASTER: Look("#CC79A7", "P"),
    MASK: Look("#000000", "X"),
}

# Of a paper's second run, third .. in one figure.
MORE = (("<", "--"), (">", ":"), ("d", "-."), ("8", "--"), ("H", ":"), ("1", "-."), ("2", "--"))


def looks(papers: Sequence[str]) -> list[Look]:
    """A look for each detector of a figure; `papers` are their papers, in the figure's order."""
    seen: Counter[str] = Counter()
    found = []
    for paper in papers:
        look, number = LOOKS[paper], seen[paper]
        seen[paper] += 1
        if number:
            marker, dashes = MORE[(number - 1) % len(MORE)]
            look = Look(look.colour, marker, dashes)
        found.append(look)
    return found


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each detector that are to be told apart: its paper, and as much more as that takes.

    Args:
        rows: with `paper`, `backbone`, `tag` ("": none), `preset`, `folder` and perhaps `dtype`: float32
            is said where others take half the bits, since theirs are other speeds.
    """
    one_dtype = len({row.get("dtype") for row in rows}) == 1
    one_backbone = len({row["backbone"] for row in rows}) == 1
    names = [""] * len(rows)
    for more in ((), ("preset",), ("preset", "folder")):
        times = Counter(names)
        for i, row in enumerate(rows):
            if times[names[i]] > 1 or not names[i]:
                parts = [
                    TITLES[row["paper"]],
                    "" if one_backbone else row["backbone"],
                    row["tag"],
                    "float32" if not one_dtype and row.get("dtype") == "float32" else "",
                    *(row[key] for key in more),
                ]
                names[i] = ", ".join(part for part in parts if part)
    return names
