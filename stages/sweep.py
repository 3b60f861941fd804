"""Every image of a split once, decoded ahead, in shards that are still to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from stages.ahead import ahead
from stages.data.records import Record
from stages.ranks import ALONE, Ranks
from stages.shards import Shard, unmade

T = TypeVar("T")


def sweep(
    records: Sequence[Record],
    every: list[Shard],
    workers: int,
    label: str,
    load: Callable[[Record], T],
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Shard, Iterator[tuple[Record, T]]]]:
    """Each unmade shard with its images, (record, what `load` makes of it), to be used up in turn.

    Args:
        records: all of the split's, which `every` shard counts from 0.
        workers: threads that load ahead (0: none).
        label: of the progress bar, which starts where an interrupted sweep stopped.
        ranks: those who sweep together; each makes shards of its own. Whoever then needs all of them
            waits for the others.
        load: `stages.data.images.image_tensor`, say; called in the threads.
    """
    mine = every[ranks.mine]
    missing = unmade(mine)
    wanted = [record for shard in missing for record in records[shard.start : shard.stop]]
    loaded = ahead(load, wanted, workers)
    total = sum(shard.stop - shard.start for shard in mine)

    with tqdm(total=total, initial=total - len(wanted), unit="image", desc=label) as bar:

        def of_shard(shard: Shard) -> Iterator[tuple[Record, T]]:
            for record in records[shard.start : shard.stop]:
                yield record, next(loaded)
                bar.update()

        for shard in missing:
            yield shard, of_shard(shard)
