"""The papers' own speeds, on an Nvidia K40 (Fast R-CNN, table 4, section 2.3 and figure 2).

Its S is CaffeNet, here AlexNet; its L is VGG16; its SPPnet has five scales. Proposals are left out. The
numbers are in `stages/published/results.csv`.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.published import the_one
from stages.published.figures import SAME, results


@dataclass(frozen=True)
class Paper:
    """A system as its paper, or Fast R-CNN's, timed it.

    Attributes:
        test: seconds an image; train: hours on VOC 2007; None: not given.
        test_gain, train_gain: how many times faster than R-CNN with the same network, as printed there.
    """

    test: float
    test_gain: float
    train: float | None
    train_gain: float | None


# What is timed here by its name: the paper's and its row.
SYSTEMS = {
    "R-CNN": ("R-CNN", "fc7 fine-tuned + box regression"),
    "SPPnet, 5 scales": ("SPPnet", "5 scales, fc7 fine-tuned + box regression"),
    "Fast R-CNN": ("Fast R-CNN", "full"),
    "Fast R-CNN + SVD": ("Fast R-CNN", "truncated SVD"),
}


def _table_4() -> dict[tuple[str, str], Paper]:
    """By our name of the network and of the system."""
    table: dict[tuple[str, str], Paper] = {}
    for network in ("AlexNet", "VGG16"):
        for name, (paper, row) in SYSTEMS.items():
            found = {
                result.metric: result.value
                for result in results()
                if (result.paper, result.system, result.backbone) == (paper, row, network)
            }
            if "test_speedup" in found:
                table[SAME[network], name] = Paper(
                    found["test_time_without_proposals"],
                    found["test_speedup"],
                    found.get("train_time"),
                    found.get("train_speedup"),
                )
    return table


def _fc_share(system: str) -> float:
    """Of a detection with VGG16, how much is in fc6 and fc7, in percent."""
    paper, row = SYSTEMS[system]
    of = {"paper": paper, "system": row, "backbone": "VGG16"}
    return sum(the_one(results(), metric=f"{fc}_share", **of).value for fc in ("fc6", "fc7"))


TABLE_4 = _table_4()

# Section 2.3: how much faster than sampling one RoI from 128 different images.
IMAGE_CENTRIC_GAIN = the_one(results(), metric="train_step_speedup").value

# Figure 2.
FC_SHARE = {("vgg16", system): _fc_share(system) for system in ("Fast R-CNN", "Fast R-CNN + SVD")}
