"""What the papers printed, looked up by paper, row and network: `results.csv`, beside this file.

A table of ours has the paper's figures beside it. They are of the network that the run has, or of one
of the paper's that stands in for it; which one is told with every figure.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from stages.backbones.config import Name

FILE = Path(__file__).with_name("results.csv")


@dataclass(frozen=True)
class Result:
    """A row of the file: one number, and all that it is of.

    Attributes:
        paper: the system's, as people call it; `source` may be another paper, which measured it again.
        system: the paper's row.
        backbone: the network, by the paper's name.
        train, test: images; empty where the number does not depend on them.
        metric: `mAP`, `box AP`, `mask AP`, `test_time`, ...; `value` in `unit`.
        device: that a time is of.
        source: the table or section that has it.
    """

    paper: str
    system: str
    backbone: str
    train: str
    test: str
    metric: str
    value: float
    unit: str
    device: str
    source: str
    note: str


@cache
def results() -> tuple[Result, ...]:
    """Every row of the file, in its order."""
    with FILE.open(newline="") as file:
        return tuple(
            Result(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        )


@dataclass(frozen=True)
class Figure:
    """A paper's figure, or the difference of two; `network`: whose, by the paper's name of it."""

    value: float
    network: str

    def less(self, other: Figure) -> Figure:
        """The difference, which is of both networks where they are two."""
        same = self.network == other.network
        network = self.network if same else f"{self.network} less {other.network}"
        return Figure(self.value - other.value, network)


PaperName = Literal["R-CNN", "SPPnet", "Fast R-CNN", "OHEM", "Faster R-CNN", "Mask R-CNN"]


@dataclass(frozen=True)
class Experiments:
    """What a paper's ablations were made with.

    Attributes:
        train: the images; the file has rows of others too.
        metric: that they are given in.
        networks: the small one and the large one that stand in for the networks it does not have.
    """

    train: tuple[str, ...]
    metric: str
    networks: tuple[str, str]


_VOC07 = "VOC07 trainval"
_EASY = "VOC07 trainval without difficult"
EXPERIMENTS: dict[PaperName, Experiments] = {
    "R-CNN": Experiments((_VOC07,), "mAP", ("AlexNet", "VGG16")),
    "SPPnet": Experiments((_VOC07, _EASY), "mAP", ("ZF-5", "VGG16")),
    "Fast R-CNN": Experiments((_VOC07,), "mAP", ("AlexNet", "VGG16")),
    "OHEM": Experiments((_VOC07,), "mAP", ("VGG_M", "VGG16")),
    "Faster R-CNN": Experiments((_EASY,), "mAP", ("ZF", "VGG16")),
    "Mask R-CNN": Experiments(("COCO trainval35k",), "mask AP", ("ResNet-50-FPN",) * 2),
}
# The papers' own names of the networks that we have too. Mask R-CNN's are called by how their maps
# are used, as well.
SAME: dict[str, Name] = {
    "AlexNet": "alexnet",
    "VGG16": "vgg16",
    "ResNet-50-C4": "resnet50",
    "ResNet-50-C5": "resnet50",
    "ResNet-50-FPN": "resnet50",
}
# Of the others, which are about as accurate on ImageNet as AlexNet and ZF; the rest are as VGG16 or above.
SMALL: tuple[Name, ...] = ("tiny", "alexnet", "squeezenet1_1")


@dataclass(frozen=True)
class Paper:
    """A paper's figures, beside a run; see `paper_beside`.

    Attributes:
        backbone: the run's network.
        network: the paper's whose figures are looked up, by the paper's name of it.
    """

    name: PaperName
    backbone: Name
    network: str

    def of(
        self, system: str, network: str | None = None, metric: str | None = None
    ) -> Figure | None:
        """The figure of a row of the paper; None if it has none of the network.

        Args:
            network: by the paper's name, where it is not the run's: such figures say so in our tables.
            metric: if it is not the one of the paper's ablations.

        Raises:
            KeyError: the paper has no such row, of any network.
        """
        found = self._row(system, metric)
        wanted = network or self.network
        return Figure(found[wanted], wanted) if wanted in found else None

    def difference(
        self, better: str, worse: str, network: str | None = None, metric: str | None = None
    ) -> Figure:
        """How far a row is above another: of the network, or else of one that has both rows.

        Args:
            network: if it is not the run's, and no other will do.

        Raises:
            KeyError: the paper has no such row, or no network in both.
        """
        above, below = self._row(better, metric), self._row(worse, metric)
        both = [name for name in above if name in below]
        if network is not None:
            both = [name for name in both if name == network]
        if not both:
            raise KeyError(f"{self.name}: {better!r} and {worse!r}: of no network both")
        chosen = self.network if self.network in both else both[0]
        return Figure(above[chosen], chosen).less(Figure(below[chosen], chosen))

    def whose(self) -> str:
        """Whose figures these are, in words, for a table's note."""
        if SAME.get(self.network) == self.backbone:
            return f"{self.network}, the network here"
        return f"{self.network}, which stands in for {self.backbone}"

    def _row(self, system: str, metric: str | None) -> dict[str, float]:
        """The row's figures, by network."""
        made = EXPERIMENTS[self.name]
        found: dict[str, float] = {}
        for row in results():
            if (row.paper, row.system, row.metric) == (
                self.name,
                system,
                metric or made.metric,
            ) and (row.train in made.train):
                if row.backbone in found:
                    raise KeyError(
                        f"{self.name}: {system!r} of {row.backbone}: twice in {FILE.name}"
                    )
                found[row.backbone] = row.value
        if not found:
            raise KeyError(f"{self.name} has no row {system!r} in {FILE.name}")
        return found


def paper_beside(name: PaperName, backbone: Name) -> Paper:
    """The paper's figures: of the run's network, or of the paper's that stands in for it."""
    small, large = EXPERIMENTS[name].networks
    return Paper(name, backbone, small if backbone in SMALL else large)
