"""What the readers of all layouts share: both splits are read at once, their faults said together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stages.data.faults import Faults
from stages.data.records import Record


@dataclass(frozen=True)
class Content:
    """What a data set's files say. Records are those without a fault."""

    train: list[Record]
    test: list[Record]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]


class Reader(ABC):
    """A folder in some layout, as a `stages.data.layouts.AsWritten`.

    Attributes:
        root: the folder; name: what to call it.
    """

    root: Path
    name: str

    @abstractmethod
    def _parse(self, faults: Faults) -> Content:
        """Read both splits; what is wrong goes to `faults`."""

    def read(self, faults: Faults) -> tuple[list[Record], list[Record]]:
        """Training and test records that are sound; what is wrong with the others goes to `faults`."""
        content, found = self._parsed
        faults.lines += found.lines
        return content.train, content.test

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have an object in the training split."""
        return self._sound.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data's own numbers of the classes."""
        return self._sound.category_ids

    @property
    def train(self) -> list[Record]:
        return self._sound.train

    @property
    def test(self) -> list[Record]:
        return self._sound.test

    @property
    def _sound(self) -> Content:
        content, faults = self._parsed
        faults.refuse()
        return content

    @cached_property
    def _parsed(self) -> tuple[Content, Faults]:
        faults = Faults(self.root)
        return self._parse(faults), faults
