"""Batches of whole images for the papers that train on them, a few at a time.

R boxes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.data.images import check_masks, image_tensor, mask_runs_of, target_of
from stages.data.masks import Masks
from stages.data.records import Record
from stages.proposals.cache import Proposals
from stages.ranks import ALONE, Ranks

NAMED = 3  # objects with a mask beside their box


def check_step(count: int, ranks: Ranks, what: str = "images") -> None:
    """Before anything is made for a training whose steps have too few images for all ranks.

    Args:
        count: of a step.
        what: they are, for people.

    Raises:
        InputError, SystemExit: see `Ranks.refuse`.
    """
    if count < ranks.world:
        ranks.refuse(f"{what} of a step: {count} for {ranks.world} ranks (processes)")


def images_to_learn_from(records: Sequence[Record]) -> np.ndarray:
    """Indices of the images that teach: with an object that is no crowd, or with nothing at all.

    The latter are background, all of them. One of crowds alone teaches neither what is an object nor
    what is none. Empty where no image has an object.
    """
    with_objects = np.array([bool((~record.iscrowd).any()) for record in records], bool)
    if not with_objects.any():
        return np.zeros(0, np.int64)
    bare = np.array([len(record.boxes) == 0 for record in records], bool)
    return np.flatnonzero(with_objects | bare)


class ImageBatches:
    """Batch s: N images with their objects, each mirrored by chance, by (seed, s).

    Every image comes once before any comes again, in an order of its own each time.

    Args:
        usable: indices of the records that have something to learn.
        images: N.
        proposals: given along with each image, its best `top`; None: none are.
        masks: whether targets have them; an object that has none gets an empty one. So does one none of
            whose mask lies in its box; the first few such are named on stderr.
        drawn: whether masks are a tensor, bool [., H, W]; else they are `Masks`, which take no memory.
        ranks: each has every so many-th of a batch's images.

    Raises:
        InputError, SystemExit: a batch has fewer images than there are ranks.
    """

    threads = True

    def __init__(
        self,
        records: Sequence[Record],
        usable: np.ndarray,
        images: int,
        mirror: bool,
        seed: int,
        proposals: Proposals | None = None,
        top: int | None = None,
        masks: bool = False,
        ranks: Ranks = ALONE,
        drawn: bool = True,
    ) -> None:
        self.records, self.usable, self.proposals, self.top = records, usable, proposals, top
        self.images, self.mirror, self.seed = images, mirror, seed
        self.masks, self.drawn = masks, drawn
        self.ranks = ranks
        check_step(images, ranks)
        self._astray: set[tuple[int, int]] = set()

    def choose(self, iteration: int) -> list[int]:
        """Indices of the records of a batch."""
        chosen = []
        for place in range(iteration * self.images, (iteration + 1) * self.images):
            epoch, position = divmod(place, len(self.usable))
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.usable)
            chosen.append(int(order[position]))
        return chosen

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        """`images`, uint8 [3, H, W] each; `targets`, torchvision's; `image_ids`; perhaps `proposals`.

        A target has a `seed` besides, for what is drawn of its image: see `draws_of`.
        """
        rng = np.random.default_rng([self.seed, 1, iteration])
        batch: dict[str, Any] = {"images": [], "targets": [], "image_ids": []}
        if self.proposals is not None:
            batch["proposals"] = []
        chosen = self.choose(iteration)
        chances = [(rng.random(), int(rng.integers(2**63))) for _ in chosen]
        for index, (chance, seed) in list(zip(chosen, chances, strict=True))[self.ranks.mine]:
            record = self.records[index]
            image, target = image_tensor(record), target_of(record)
            target["seed"] = seed
            mirrored = self.mirror and chance < 0.5
            if self.masks:
                masks = self._masks(index)
                masks = masks.mirrored() if mirrored else masks
                target["masks"] = masks[torch.arange(len(masks))] if self.drawn else masks
            if mirrored:
                image = image.flip(-1)
                target["boxes"] = mirror(target["boxes"], record.width)
            batch["images"].append(image)
            batch["targets"].append(target)
            batch["image_ids"].append(record.image_id)
            if self.proposals is not None:
                boxes = torch.from_numpy(self.proposals.of(record, self.top))
                batch["proposals"].append(mirror(boxes, record.width) if mirrored else boxes)
        return batch

    def _masks(self, index: int) -> Masks:
        """Of a record; a mask beside its box would teach that all in the box is background."""
        record = self.records[index]
        if self.drawn:
            check_masks(record)
        if not record.has_masks:
            return Masks.empty(len(record.boxes), record.height, record.width)
        masks = mask_runs_of(record).within(record.boxes)
        known = record.with_mask & ~record.iscrowd
        for place in np.flatnonzero(known & ~masks.has_pixels().numpy()).tolist():
            self._say_astray(index, place)
        return masks

    def _say_astray(self, index: int, place: int) -> None:
        """Once an object, and of the first few alone: whoever sees those looks for the others."""
        before = len(self._astray)
        self._astray.add((index, place))
        if before == len(self._astray) or before > NAMED:
            return
        name = f"object {place + 1} of {self.records[index].path}"
        if before == NAMED:
            name += ", and perhaps others after it"
        print(
            f"no pixel of its mask is in its box, so that it teaches none: {name}", file=sys.stderr
        )


def mirror(boxes: Tensor, width: int | Tensor) -> Tensor:
    """Boxes [R, 4] of an image as wide, or each of one of its own [R], left and right exchanged."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
