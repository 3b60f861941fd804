"""The priors' shapes: k-means over the training boxes (section 2.3; YOLO9000, section 2).

n boxes, k clusters.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 300  # at most: with this distance the mean need not be the best centre, nor the search end


def cluster(sizes: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Widths and heights that many boxes are near to, smallest area first.

    The distance is 1 - IoU, so that large boxes do not err more than small ones. Where there are
    fewer different boxes than k, some centres are equal.

    Args:
        sizes: [n, 2], widths and heights, positive; n is 1 or more.
        seed: of the first centres, drawn as k-means++ does: far from those there are.

    Returns:
        float64 [k, 2].
    """
    rng = np.random.default_rng(seed)
    sizes = sizes.astype(np.float64)
    centres = sizes[rng.integers(len(sizes), size=1)]
    while len(centres) < k:
        far = distances(sizes, centres).min(axis=1)
        chances = far / far.sum() if far.sum() > 0 else None
        centres = np.concatenate([centres, sizes[rng.choice(len(sizes), size=1, p=chances)]])
    before = None
    for _ in range(ROUNDS):
        nearest = distances(sizes, centres).argmin(axis=1)
        if before is not None and (nearest == before).all():
            break
        for number in np.unique(nearest):
            centres[number] = sizes[nearest == number].mean(axis=0)
        before = nearest
    return centres[np.argsort(centres.prod(axis=1), kind="stable")]


def distances(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """1 - IoU of boxes [n, 2] and [k, 2] with a common centre: [n, k], in 0..1."""
    both = np.minimum(sizes[:, None], centres).prod(axis=2)
    return np.maximum(1 - both / (sizes.prod(axis=1)[:, None] + centres.prod(axis=1) - both), 0)
