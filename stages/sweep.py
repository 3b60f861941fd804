"""Every image of a split once, decoded ahead, in shards that are still to make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from tqdm import tqdm

from stages.data.images import load_images
from stages.data.records import Record
from stages.shards import Shard, unmade


def sweep(
    records: Sequence[Record], every: list[Shard], workers: int, label: str
) -> Iterator[tuple[Shard, Iterator[tuple[Record, Tensor]]]]:
    """Each unmade shard with its images, (record, uint8 [3, H, W]); those are to be used up in turn.

    Args:
        records: all of the split's, which `every` shard counts from 0.
        workers: threads that decode ahead (0: none).
        label: of the progress bar, which starts where an interrupted sweep stopped.
    """
    missing = unmade(every)
    wanted = [record for shard in missing for record in records[shard.start : shard.stop]]
    images = load_images(wanted, workers)
    done = len(records) - len(wanted)

    with tqdm(total=len(records), initial=done, unit="image", desc=label) as bar:

        def of_shard(shard: Shard) -> Iterator[tuple[Record, Tensor]]:
            for record in records[shard.start : shard.stop]:
                image, _ = next(images)
                yield record, image
                bar.update()

        for shard in missing:
            yield shard, of_shard(shard)
