"""Selective search's hierarchy, step by step (Uijlings et al. 2013, section 3 and algorithm 1).

OpenCV's selective search, which the project proposes with, gives its boxes and no regions; to look at
them, this is the same algorithm once more, for one image, with one segmentation and without texture.

H, W the image's height and width; n initial regions, so that there are n - 1 merges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 25  # of a colour channel's histogram (section 3.2)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Regions, and which of them became one.

    Attributes:
        segments: int64 [H, W], each pixel's initial region, from 0 to n - 1.
        merges: int64 [n - 1, 2], the two that became region n, then n + 1, and so on.
        boxes: float32 [2 n - 1, 4] xyxy, of every region that there ever was.
    """

    segments: np.ndarray
    merges: np.ndarray
    boxes: np.ndarray

    def at(self, left: int) -> np.ndarray:
        """Each pixel's region when so many are left: int64 [H, W]."""
        n = len(self.merges) + 1
        now = np.arange(2 * n - 1)
        for new, (a, b) in enumerate(self.merges[: n - left], start=n):
            now[(now == a) | (now == b)] = new
        return now[self.segments]  # type: ignore[no-any-return]


def segment(image: np.ndarray, scale: float = 150.0, least: int = 20) -> np.ndarray:
    """Small regions of even colour, int64 [H, W] (Felzenszwalb and Huttenlocher 2004).

    Args:
        image: uint8 [H, W, 3], RGB.
        scale: k: larger, fewer regions; least: a region's pixels. OpenCV's fast search: 150 and 100.
    """
    import cv2  # not everywhere there: see `stages.proposals.selective_search`

    segmentation = cv2.ximgproc.segmentation.createGraphSegmentation(0.8, scale, least)
    return segmentation.processImage(image).astype(np.int64)  # type: ignore[no-any-return]


def group(image: np.ndarray, segments: np.ndarray) -> Hierarchy:
    """Merge the two most similar neighbours until one region is left.

    Args:
        image: uint8 [H, W, 3], RGB.
        segments: int [H, W], its initial regions.
    """
    _, segments = np.unique(segments, return_inverse=True)  # from 0 on, none left out
    segments = segments.reshape(image.shape[:2])
    regions = dict(enumerate(_regions(image, segments)))
    boxes = [region.box for region in regions.values()]
    neighbours = _neighbours(segments)
    similarity = {(a, b): _similarity(regions[a], regions[b], segments.size) for a, b in neighbours}
    merges = []
    while similarity:
        # Ties, which there are between regions that are alike, go to the pair that was there first.
        a, b = pair = max(similarity, key=lambda pair: similarity[pair])
        new = len(boxes)
        regions[new] = _merged(regions[a], regions[b])
        boxes.append(regions[new].box)
        merges.append(pair)
        touched = [other for other in similarity if a in other or b in other]
        for other in touched:
            del similarity[other]
        for i in sorted({i for other in touched for i in other} - {a, b}):
            similarity[i, new] = _similarity(regions[i], regions[new], segments.size)
    return Hierarchy(
        segments, np.array(merges, np.int64).reshape(-1, 2), np.array(boxes, np.float32)
    )


@dataclass(frozen=True, eq=False)
class _Region:
    pixels: int
    histogram: np.ndarray  # [3 * BINS], sums to 1
    box: np.ndarray  # [4] xyxy


def _regions(image: np.ndarray, segments: np.ndarray) -> list[_Region]:
    found = []
    for number in range(segments.max() + 1):
        rows, columns = np.nonzero(segments == number)
        colours = image[rows, columns].astype(int)
        histograms = [np.bincount(channel * BINS // 256, minlength=BINS) for channel in colours.T]
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        joined = np.concatenate(histograms) / colours.size
        found.append(_Region(len(rows), joined, np.array(box, np.float32)))
    return found


def _neighbours(segments: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of regions with pixels side by side."""
    across = np.stack([segments[:, :-1].ravel(), segments[:, 1:].ravel()])
    down = np.stack([segments[:-1].ravel(), segments[1:].ravel()])
    pairs = np.unique(np.sort(np.concatenate([across, down], axis=1), axis=0), axis=1)
    return [(int(a), int(b)) for a, b in pairs.T if a != b]


def _similarity(a: _Region, b: _Region, pixels: int) -> float:
    """Equations 2, 4 and 5: alike in colour, small, and filling one box together."""
    colour = np.minimum(a.histogram, b.histogram).sum()
    size = 1 - (a.pixels + b.pixels) / pixels
    x1, y1, x2, y2 = _around(a.box, b.box)
    fill = 1 - ((x2 - x1) * (y2 - y1) - a.pixels - b.pixels) / pixels
    return float(colour + size + fill)


def _merged(a: _Region, b: _Region) -> _Region:
    pixels = a.pixels + b.pixels
    histogram = (a.pixels * a.histogram + b.pixels * b.histogram) / pixels
    return _Region(pixels, histogram, _around(a.box, b.box))


def _around(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
