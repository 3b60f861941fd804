"""Which images are nearly the same: changed copies of photographs are, photographs of one kind are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from stages.data import twins
from stages.data.decode import decode
from stages.data.files import is_image
from stages.data.look import Look, fingerprint_of, look_at
from stages.data.shapes import ShapesConfig, draw_scene
from stages.data.twins import BITS, FEWEST, MOST, SHARE, are_twins, groups_of

SHARED = Path(__file__).parents[3] / "../shared/data"


def looks_of(prints: list[str], digests: list[str] | None = None) -> list[Look]:
    named = digests if digests is not None else [str(n) for n in range(len(prints))]
    return [
        Look(None, False, 1, 1, 1, None, digest, one)
        for digest, one in zip(named, prints, strict=True)
    ]


def hexadecimal(bits: np.ndarray) -> str:
    return np.packbits(bits).tobytes().hex()


@cache
def scene(number: int) -> np.ndarray:
    """A drawn photograph with a background, uint8 [H, W, 3]."""
    return draw_scene(np.random.default_rng([7, number]), ShapesConfig(1, 1)).image


# ------------------------------------------------------------------ pictures


def encoded_again(pixels: np.ndarray) -> np.ndarray:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "JPEG", quality=50)
    return np.asarray(Image.open(made))


def scaled(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2)))


def squared(pixels: np.ndarray) -> np.ndarray:
    """As a web site exports all its images."""
    return np.asarray(Image.fromarray(pixels).resize((416, 416)))


def brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * 1.1 + 15, 0, 255).astype(np.uint8)


def darker(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 0.7).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def cropped(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[height // 100 :, width // 100 : width - width // 100]


CHANGES = [encoded_again, scaled, squared, brighter, darker, grey, cropped]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found(change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = [
        are_twins(fingerprint_of(scene(n)), fingerprint_of(change(scene(n)))) for n in range(12)
    ]
    assert sum(found) >= 11


def test_other_pictures_are_not() -> None:
    prints = [fingerprint_of(scene(n)) for n in range(80)]
    assert groups_of(looks_of(prints)) == []


@pytest.mark.parametrize("rectangles", [0, 1, 2, 4, 8, 16])
@pytest.mark.parametrize("noise", [0, 3])
def test_plain_pictures_are_not_alike_for_their_paper(rectangles: int, noise: int) -> None:
    rng = np.random.default_rng(0)
    prints = []
    for _ in range(60):
        page = Image.new("L", (320, 240), 245)
        pen = ImageDraw.Draw(page)
        for _ in range(rectangles):
            x, y = rng.integers(0, (280, 200))
            width, height = rng.integers(8, 80, 2)
            pen.rectangle([x, y, x + width, y + height], fill=int(rng.integers(0, 200)))
        values = np.asarray(page) + rng.normal(0, noise, (240, 320))
        pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        prints.append(fingerprint_of(np.repeat(pixels[:, :, None], 3, axis=2)))
    assert groups_of(looks_of(prints)) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="no photographs beside the project")
@pytest.mark.parametrize("name", ["raccoon", "pets"])
def test_photographs(name: str) -> None:
    """Copies of a web's photographs are found; others, of one motif all of them, are not."""
    folder = SHARED / name / "JPEGImages"
    paths = sorted(path for path in folder.iterdir() if is_image(path.name))[:150]
    looks = [look_at(path) for path in paths]
    assert all(look.fault is None for look in looks)
    alone = groups_of(looks)
    changed = []
    for path, change in zip(paths, CHANGES * len(paths), strict=False):
        changed.append(fingerprint_of(change(decode(path))))
    both = groups_of([*looks, *looks_of(changed)])
    group_of = {place: number for number, group in enumerate(both) for place in group}
    together = sum(
        group_of.get(n) is not None and group_of.get(n) == group_of.get(n + len(paths))
        for n in range(len(paths))
    )
    assert together >= 0.9 * len(paths)
    # No two photographs come together for the copies' sake.
    before = {frozenset(group) for group in alone}
    after = {frozenset(n for n in group if n < len(paths)) for group in both}
    assert {group for group in after if len(group) > 1} == before
    if name == "raccoon":
        same = {"raccoon-11", "raccoon-116"}
        assert same in [{paths[n].stem for n in group} for group in alone]


# ------------------------------------------------------------------ groups


def by_definition(prints: np.ndarray) -> list[list[int]]:
    """Groups of fingerprints, bool [N, 256], pair by pair."""
    count = len(prints)
    own = list(range(count))
    for i in range(count):
        for j in range(i):
            bits = min(prints[i].sum(), prints[j].sum())
            differ = (prints[i] != prints[j]).sum()
            if bits >= FEWEST and differ <= min(MOST, SHARE * bits):
                old, new = own[i], own[j]
                own = [new if one == old else one for one in own]
    groups = [[i for i in range(count) if own[i] == one] for one in sorted(set(own))]
    return sorted(group for group in groups if len(group) > 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 40),
    density=st.floats(0.02, 0.9),
    changes=st.integers(0, 45),
    tile=st.sampled_from([1, 3, 16, 2048]),
    edges=st.sampled_from([1, 20, 2**22]),
)
def test_groups_are_chains_of_pairs(
    seed: int, count: int, density: float, changes: int, tile: int, edges: int
) -> None:
    rng = np.random.default_rng(seed)
    prints = np.zeros((count, BITS), bool)
    for n in range(count):
        if n and rng.random() < 0.6:  # a copy of one before it, changed a little
            prints[n] = prints[rng.integers(n)]
            places = rng.choice(BITS, changes, replace=False)
            prints[n, places] ^= True
        else:
            prints[n] = rng.random(BITS) < density
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "TILE", tile)
        patch.setattr(twins, "EDGES", edges)
        assert groups_of(looks_of([hexadecimal(one) for one in prints])) == by_definition(prints)


def test_the_limit_is_met_exactly() -> None:
    rng = np.random.default_rng(0)
    bits = rng.permutation(np.arange(BITS) < 160)
    for differ, expected in ((0, True), (MOST, True), (MOST + 1, False)):
        other = bits.copy()
        other[np.flatnonzero(~bits)[: differ // 2]] = True
        other[np.flatnonzero(bits)[: differ - differ // 2]] = False
        assert are_twins(hexadecimal(bits), hexadecimal(other)) == expected


def test_the_same_bytes_are_twins_even_if_unreadable() -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = (hexadecimal(rng.random(BITS) < 0.5) for _ in range(4))
    looks = looks_of([a, b, "", c, "", "", d, ""], ["1", "2", "x", "1", "x", "y", "3", ""])
    assert groups_of(looks) == [[0, 3], [2, 4]]
    missing = Look("missing", False, 0, 0, 1, None, "", "")
    assert groups_of([missing, missing]) == []
    assert groups_of([]) == []
    assert groups_of(looks[:1]) == []


def test_groups_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(3)
    prints = [hexadecimal(rng.random(BITS) < 0.5) for _ in range(30)]
    prints += prints[:10]
    looks = looks_of(prints)
    order = rng.permutation(len(looks)).tolist()
    found = {frozenset(group) for group in groups_of(looks)}
    assert found == {frozenset((n, n + 30)) for n in range(10)}
    shuffled = groups_of([looks[n] for n in order])
    assert {frozenset(order[place] for place in group) for group in shuffled} == found
    assert all(group == sorted(group) for group in shuffled)
    assert shuffled == sorted(shuffled)
