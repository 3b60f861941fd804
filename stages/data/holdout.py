"""A part of the only split, held out to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from stages.data.records import Record
from stages.errors import InputError


def hold_out(
    records: Sequence[Record], twins: Sequence[Collection[int]], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Training and test records, each in their order.

    Images go by the hash of their name and the seed, so that an image added later moves no other. Twins
    go together: tested on the twin of a training image, a detector is tested on what it has learnt.

    Args:
        twins: groups of places among the records.
        share: of the images, about; at least one is held out, and at least one is not.

    Raises:
        InputError: there is nothing to divide.
    """
    group_of = {place: min(group) for group in twins for place in group}
    groups: dict[int, list[int]] = {}
    for place in range(len(records)):
        groups.setdefault(group_of.get(place, place), []).append(place)
    if len(groups) < 2:
        raise InputError(
            f"{records[0].path}: nothing can be held out of one image, or of the same image many times"
            if records
            else "nothing can be held out of no image"
        )

    wanted = share * len(records)

    def draw(places: list[int]) -> tuple[bool, str]:
        name = min(str(records[place].image_id) for place in places)
        too_many = len(places) > max(wanted, 1)  # only where there is nothing else
        return too_many, hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    held: set[int] = set()
    for places in sorted(groups.values(), key=draw)[:-1]:
        if not held or len(held) + len(places) / 2 <= wanted:
            held.update(places)
    return (
        [record for place, record in enumerate(records) if place not in held],
        [record for place, record in enumerate(records) if place in held],
    )
