"""Outlines of objects as COCO writes them, and the masks they stand for.

N objects in an image, H, W its height and width, P points of a polygon. A mask's run lengths
go down its columns, and count zeros first: (zeros, ones, zeros, ..), adding up to H·W.

pycocotools draws both, in C that trusts its input: run lengths that add up to more than the
image, or points far away from it, would write or allocate beyond all bounds. So whatever
comes from a file goes through `polygons_of` or `run_lengths_of` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco  # type: ignore[import-untyped]

from stages.data.records import Segmentation

# Of an outline's way around, in pixels: far more than any object's, and half a second to draw.
LONGEST = 2**20


def polygons_of(polygons: Sequence[Any], width: int, height: int) -> tuple[np.ndarray, ...]:
    """Polygons as COCO's JSON has them, [[x, y, x, y, ..], ..], in pixels.

    Those of less than three points have no area and are left out; nothing may be left.

    Raises:
        ValueError: something is no polygon, not a number, or far outside the image.
    """
    arrays = []
    for polygon in polygons:
        if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
            raise ValueError("a polygon is not a list of numbers")
        if len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers, which are not x y pairs")
        if len(polygon) >= 6:
            try:
                arrays.append(np.array(polygon, np.float64))
            except OverflowError:
                raise ValueError("a polygon's number is too large") from None
    # Annotators' lines run a little over the edge. pycocotools walks along every line at a
    # fifth of a pixel, so a point a billion pixels away would cost gigabytes.
    reach = 2 * max(width, height)
    for array in arrays:
        if not (array.min() >= -reach and array.max() <= reach):  # nan is neither
            raise ValueError(f"a polygon's point is far outside the image of {width}x{height}")
    check_length(arrays)
    return tuple(arrays)


def check_length(polygons: Sequence[np.ndarray]) -> None:
    """Refuse an outline, float64 [2P] x y x y .. of each polygon, that goes to and fro for ever.

    pycocotools walks along it at a fifth of a pixel, and keeps each step: 50 bytes a pixel.

    Raises:
        ValueError: it is longer than `LONGEST`.
    """
    if sum(len(p) * float(np.abs(p).max(initial=0)) for p in polygons) <= LONGEST:
        return  # it cannot be: each of P lines is at most two of its coordinates long
    corners = [polygon.reshape(-1, 2) for polygon in polygons]
    length = sum(np.abs(c - np.roll(c, 1, axis=0)).max(axis=1).sum() for c in corners)
    if length > LONGEST:
        raise ValueError(f"an outline of {length:.0f} pixels' length, over {LONGEST}")


def run_lengths_of(runs: dict[str, Any], width: int, height: int) -> bytes:
    """Run lengths as COCO's JSON has them, {"size": [H, W], "counts": list or string}, compressed.

    Raises:
        ValueError: they are not a mask of the image's size.
    """
    size, counts = runs.get("size"), runs.get("counts")
    if size != [height, width]:
        raise ValueError(
            f"run lengths of size {size!r} (H, W), but its image has {[height, width]}"
        )
    if width * height >= 2**32:
        raise ValueError(f"run lengths of {width}x{height} pixels, more than pycocotools counts")
    if isinstance(counts, str):
        lengths = uncompressed(counts)
    elif isinstance(counts, list) and set(map(type, counts)) <= {int}:
        lengths = counts
    else:
        raise ValueError("run lengths whose counts are neither a string nor a list of integers")
    total = sum(lengths)
    if min(lengths, default=0) < 0 or total != width * height:
        raise ValueError(f"run lengths of {total} pixels, but its image has {width * height}")
    if isinstance(counts, str):
        return counts.encode()
    return coco.frPyObjects({"size": size, "counts": counts}, height, width)["counts"]


def uncompressed(counts: str) -> list[int]:
    """Run lengths from COCO's compressed string.

    Each character holds 48 + 5 bits of a number, lowest first, + 32 when more of it follow; the
    last one's highest bit is the sign. From the fourth on, numbers are differences to the one
    before the last.

    Raises:
        ValueError: the string is none.

    Source: pycocotools' maskApi.c, rleFrString, which reads on beyond a string that is cut short.
    """
    codes = np.frombuffer(counts.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    sound = counts.isascii() and len(codes) > 0 and codes.min() >= 0 and codes.max() <= 63
    if not sound or codes[-1] & 32:
        raise ValueError("compressed run lengths that are damaged")
    last = np.flatnonzero((codes & 32) == 0)  # of each number
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 6:  # 35 bits: no image has as many pixels
        raise ValueError("compressed run lengths that are damaged")
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), first)
    numbers -= np.where(codes[last] & 16, 1 << (5 * (last - first + 1)), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers.tolist()


def outlines_of(
    outlines: Sequence[Segmentation | None],
) -> tuple[Segmentation | None, ...] | None:
    """What a record holds of its N objects' outlines: None where there are objects and no outline."""
    none = bool(outlines) and all(outline is None for outline in outlines)
    return None if none else tuple(outlines)


def encode_segmentation(segmentation: Segmentation | None, width: int, height: int) -> bytes:
    """An outline's mask, compressed; one without polygons, or None, has no pixels."""
    if isinstance(segmentation, bytes):
        return segmentation
    if not segmentation:
        return _compressed([width * height], width, height)
    polygons = coco.frPyObjects(list(segmentation), height, width)
    runs: bytes = coco.merge(polygons)["counts"]
    return runs


def encode_indices(indices: np.ndarray, numbers: np.ndarray) -> list[bytes]:
    """The masks of the pixels that bear each number, compressed.

    Args:
        indices: integers [H, W].
        numbers: int64 [N].
    """
    height, width = indices.shape
    along = indices.T.ravel()  # down the columns
    begins = np.concatenate([[0], np.flatnonzero(along[1:] != along[:-1]) + 1])
    ends = np.append(begins[1:], len(along))
    order = np.argsort(along[begins], kind="stable")
    values = along[begins][order]
    masks = []
    for first, last in zip(
        np.searchsorted(values, numbers, "left"),
        np.searchsorted(values, numbers, "right"),
        strict=True,
    ):
        own = order[first:last]
        edges = np.stack([begins[own], ends[own]], axis=1).ravel()
        lengths = np.diff(edges, prepend=0, append=len(along)).tolist()
        if len(lengths) > 1 and lengths[-1] == 0:  # it reaches the last pixel
            lengths.pop()
        masks.append(_compressed(lengths, width, height))
    return masks


def _compressed(lengths: list[int], width: int, height: int) -> bytes:
    runs: bytes = coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)[
        "counts"
    ]
    return runs


def draw_run_lengths(counts: bytes, mask: np.ndarray) -> None:
    """Set the pixels of a compressed mask in an empty one, bool [H, W]; only its columns are touched."""
    height = mask.shape[0]
    lengths = np.array(uncompressed(counts.decode()))
    ends = lengths.cumsum()
    if len(lengths) < 2 or not lengths[1::2].any():
        return
    last = (len(lengths) // 2) * 2  # without the zeros behind the last ones
    left = int(lengths[0]) // height
    right = -(-int(ends[last - 1]) // height)
    lengths = lengths[:last]
    lengths[0] -= left * height
    columns = np.zeros((right - left) * height, bool)
    columns[: lengths.sum()] = np.repeat(np.arange(last) % 2 == 1, lengths)
    mask[:, left:right] = columns.reshape(right - left, height).T


def draw_segmentations(
    segmentations: Sequence[Segmentation | None], width: int, height: int
) -> np.ndarray:
    """bool [N, H, W], a mask for each outline; one without polygons, or None, has no pixels."""
    masks = np.zeros((len(segmentations), height, width), bool)
    for mask, segmentation in zip(masks, segmentations, strict=True):
        draw_run_lengths(encode_segmentation(segmentation, width, height), mask)
    return masks
