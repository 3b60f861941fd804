"""Which images of a data set are nearly the same picture: encoded again, scaled, a bit cropped or brighter.

A test image whose twin was trained on measures nothing. What a fixed camera takes is alike as well, while
little in it moves; so are forms and other prints of one layout. Mirrored and turned pictures are not found.

N images, D of them different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.data.look import COLUMNS, ROWS, Look

BITS = ROWS * COLUMNS
# Of two fingerprints: bits that may differ. Cutting a fiftieth off each side changes 20 to 40, different
# photographs differ in 50 and more.
MOST = BITS // 8
# And of the bits that are set, a part: in a plain picture (white paper) few are, and most are alike.
SHARE = 0.3
# Fewer are no picture to go by.
FEWEST = 24
TILE = 2048  # images compared with as many at once: 16 MB
EDGES = 2**22  # pairs kept before they are joined


def groups_of(looks: Sequence[Look]) -> list[list[int]]:
    """Places of images that are twins, ascending, the groups by their first; who has no twin is in none.

    Twins' twins are one group, which the frames of a camera chain into as its scene changes. Files of the
    same bytes are twins even if they cannot be read, but for empty ones.

    120,000 take two minutes on one core.
    """
    digests = [look.digest or str(place) for place, look in enumerate(looks)]
    _, first, own = np.unique(digests, return_index=True, return_inverse=True)
    joined = own.copy() if len(looks) else np.zeros(0, np.int64)
    prints = [looks[place].fingerprint for place in first]
    label = _joined(prints)[joined]
    order = np.argsort(label, kind="stable")
    ends = np.flatnonzero(np.diff(label[order])) + 1
    groups = [part.tolist() for part in np.split(order, ends) if len(part) > 1]
    return sorted(groups)


def are_twins(one: str, other: str) -> bool:
    """Whether two fingerprints are nearly of the same picture; see `stages.data.look.fingerprint_of`."""
    return len(set(_joined([one, other]).tolist())) == 1


def _joined(prints: Sequence[str]) -> np.ndarray:
    """A number for each of D fingerprints, int64 [D], the same for those that twins chain together."""
    none = "00" * (BITS // 8)
    packed = np.frombuffer(bytes.fromhex("".join(one or none for one in prints)), np.uint8)
    bits = np.unpackbits(packed).reshape(-1, BITS)
    label = np.arange(len(prints))
    usable = np.flatnonzero(bits.sum(axis=1) >= FEWEST)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    kept = 0
    for i, j in _pairs(bits[usable]):
        rows.append(usable[i])
        columns.append(usable[j])
        kept += len(i)
        if kept > EDGES:
            label, rows, columns, kept = _join(label, rows, columns), [], [], 0
    return _join(label, rows, columns)


def _pairs(bits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of twins among fingerprints, uint8 [D, 256] of 0 and 1: the places of ones and of others.

    All are compared with all, as a product of matrices: nothing depends on how alike the pictures are.
    """
    count = bits.sum(axis=1).astype(np.float32)
    most = np.minimum(MOST, SHARE * count)
    for i in range(0, len(bits), TILE):
        a = slice(i, i + TILE)
        # Of sets of a and b bits, of which ab are common, a + b - 2 ab differ.
        left = np.hstack([bits[a] * np.float32(-2), np.ones((len(bits[a]), 1), np.float32)])
        for j in range(i, len(bits), TILE):
            b = slice(j, j + TILE)
            differ = left @ np.hstack([bits[b], count[b, None]]).T
            near = differ <= (most - count)[a, None]
            rows, columns = np.nonzero(near)
            fits = differ[rows, columns] + count[a][rows] <= most[b][columns]
            fits &= rows + i < columns + j
            yield rows[fits] + i, columns[fits] + j


def _join(
    label: np.ndarray, rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]
) -> np.ndarray:
    """Numbers of groups, int64 [D], after pairs of their members were joined."""
    if not rows:
        return label
    i, j = label[np.concatenate(rows)], label[np.concatenate(columns)]
    ones = np.ones(len(i), np.int8)
    graph = coo_array((ones, (i, j)), shape=(len(label), len(label)))
    _, of_group = connected_components(graph, directed=False)
    return of_group[label].astype(np.int64)
