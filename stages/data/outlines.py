"""The outlines of what is drawn: the classes' figures, and those of what has no class.

P points of an outline. Points are x y, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Figure:
    """A plane figure, about as large as the unit circle until it is posed.

    Attributes:
        solids: closed outlines, float64 [P, 2] each, that are filled.
        holes: closed outlines taken out of the solids.
        strokes: open lines.
        thickness: of the strokes.
    """

    solids: tuple[np.ndarray, ...] = ()
    holes: tuple[np.ndarray, ...] = ()
    strokes: tuple[np.ndarray, ...] = ()
    thickness: float = 0.0

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest x y of what is filled or stroked, float64 [2] each."""
        points = np.concatenate(self.solids + self.strokes)
        return points.min(0) - self.thickness / 2, points.max(0) + self.thickness / 2

    def mapped(self, matrix: np.ndarray, shift: np.ndarray) -> Figure:
        """Every point p becomes matrix [2, 2] · p + shift [2]."""

        def move(lines: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            return tuple(points @ matrix.T + shift for points in lines)

        scale = math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
        return Figure(
            move(self.solids), move(self.holes), move(self.strokes), self.thickness * scale
        )


def pose(
    rng: np.random.Generator,
    figure: Figure,
    size: float,
    stretch: float = 1.35,
    turn: float = math.pi,
) -> Figure:
    """The figure as it appears in a picture: stretched, slanted a little, turned and scaled.

    Args:
        size: the longer side of its upright extent, in pixels.
        stretch: the most by which one of its own axes outgrows the other.
        turn: the greatest angle, in radians, either way.
    """
    longer = math.exp(rng.uniform(-0.5, 0.5) * math.log(stretch))
    angle, slant = rng.uniform(-turn, turn), rng.uniform(-0.08, 0.08)
    cos, sin = math.cos(angle), math.sin(angle)
    rotate = np.array([[cos, -sin], [sin, cos]])
    turned = figure.mapped(rotate @ np.array([[longer, slant], [0.0, 1 / longer]]), np.zeros(2))
    low, high = turned.extent()
    scale = size / float((high - low).max())
    return turned.mapped(np.eye(2) * scale, rng.uniform(0, 1, 2) - low * scale)


def _round(radii: np.ndarray, start: float = 0.0) -> np.ndarray:
    """[P, 2] points at these distances from the centre, evenly spread over the full angle."""
    angles = start + np.arange(len(radii)) * (2 * np.pi / len(radii))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _arc(radius: float, start: float, end: float, points: int = 24) -> np.ndarray:
    angles = np.linspace(start, end, points)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def _arrow(rng: np.random.Generator) -> Figure:
    neck, barb, shaft = rng.uniform(-0.05, 0.2), rng.uniform(0.7, 0.9), rng.uniform(0.2, 0.32)
    upper = [[1.0, 0.0], [neck, barb], [neck, shaft], [-1.0, shaft]]
    return Figure((np.array(upper + [[x, -y] for x, y in reversed(upper[1:])]),))


def _crescent(rng: np.random.Generator) -> Figure:
    # A disc less a second disc, of radius `bite`, whose centre lies `off` to its right.
    off, bite = rng.uniform(0.4, 0.6), rng.uniform(0.78, 0.92)
    x = (1 + off**2 - bite**2) / (2 * off)
    y = math.sqrt(1 - x**2)
    outer = math.atan2(y, x)
    inner = math.atan2(y, x - off)
    back = _arc(bite, 2 * math.pi - inner, inner) + np.array([off, 0.0])
    return Figure((np.concatenate([_arc(1.0, outer, 2 * math.pi - outer, 36), back]),))


def _cross(rng: np.random.Generator) -> Figure:
    a = rng.uniform(0.27, 0.4)
    corner = np.array([[1.0, -a], [1.0, a], [a, a]])
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    corners = [corner]
    for _ in range(3):
        corners.append(corners[-1] @ quarter.T)
    return Figure((np.concatenate(corners),))


def _disc(rng: np.random.Generator) -> Figure:
    return Figure((_round(np.ones(48)),))


def _heart(rng: np.random.Generator) -> Figure:
    t = np.arange(48) * (2 * np.pi / 48)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return Figure((np.stack([np.sin(t) ** 3, -y / 16], 1),))


def _hexagon(rng: np.random.Generator) -> Figure:
    return Figure((_round(np.ones(6)),))


def _ring(rng: np.random.Generator) -> Figure:
    return Figure((_round(np.ones(48)),), (_round(np.full(32, rng.uniform(0.45, 0.68))),))


def _square(rng: np.random.Generator) -> Figure:
    return Figure((_round(np.ones(4)) @ np.array([[0.5, 0.5], [-0.5, 0.5]]) * math.sqrt(2),))


def _star(rng: np.random.Generator) -> Figure:
    tips = (4, 5, 5, 6)[rng.integers(4)]
    inner = rng.uniform(0.34, 0.42) if tips == 4 else rng.uniform(0.4, 0.52)
    return Figure((_round(np.tile([1.0, inner], tips)),))


def _triangle(rng: np.random.Generator) -> Figure:
    corners = _round(np.ones(3))
    corners[0] += [0.0, rng.uniform(-0.35, 0.35)]
    return Figure((corners,))


OUTLINES: dict[str, Callable[[np.random.Generator], Figure]] = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "heart": _heart,
    "hexagon": _hexagon,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}


# ------------------------------------------- outlines of what has no class


def _blob(rng: np.random.Generator) -> Figure:
    angles = np.arange(48) * (2 * np.pi / 48)
    waves = [rng.normal() / k * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5)]
    bumps = np.sum(waves, 0)
    return Figure((_round(1 + bumps * (rng.uniform(0.35, 0.55) / np.abs(bumps).max())),))


def _wedge(rng: np.random.Generator) -> Figure:
    half = rng.uniform(0.3, 0.8) * math.pi
    return Figure((np.concatenate([_arc(1.0, -half, half), [[0.0, 0.0]]]),))


def _arch(rng: np.random.Generator) -> Figure:
    half, inner = rng.uniform(0.4, 0.8) * math.pi, rng.uniform(0.5, 0.7)
    return Figure((np.concatenate([_arc(1.0, -half, half), _arc(inner, half, -half)]),))


def _ell(rng: np.random.Generator) -> Figure:
    a, b = rng.uniform(-0.6, 0.1, 2)
    return Figure((np.array([[-1, -1], [1, -1], [1, a], [b, a], [b, 1], [-1, 1]]),))


def _tee(rng: np.random.Generator) -> Figure:
    a, b = rng.uniform(0.2, 0.4), rng.uniform(-0.5, -0.2)
    return Figure(
        (np.array([[-1, -1], [1, -1], [1, b], [a, b], [a, 1], [-a, 1], [-a, b], [-1, b]]),)
    )


def _chevron(rng: np.random.Generator) -> Figure:
    notch = rng.uniform(-0.1, 0.35)
    return Figure((np.array([[1.0, 0.0], [-0.7, 0.9], [notch, 0.0], [-0.7, -0.9]]),))


def _bar(rng: np.random.Generator) -> Figure:
    a = rng.uniform(0.12, 0.3)
    return Figure((np.array([[-1, -a], [1, -a], [1, a], [-1, a]]),))


def _hollow(rng: np.random.Generator) -> Figure:
    """An angular class with its middle taken out: not a ring, not the class."""
    name = ("square", "triangle", "hexagon")[rng.integers(3)]
    outer = OUTLINES[name](rng).solids[0]
    middle = outer.mean(0)
    return Figure((outer,), (middle + (outer - middle) * rng.uniform(0.5, 0.72),))


def _half(rng: np.random.Generator) -> Figure:
    """Half of a class; of those only whose halves are not a class themselves."""
    name = ("arrow", "disc", "heart", "hexagon", "ring", "star")[rng.integers(6)]
    whole = OUTLINES[name](rng)
    angle = 0.0 if name == "arrow" else rng.uniform(-math.pi, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    lower = np.array([[-3.0, 0.0], [3.0, 0.0], [3.0, 3.0], [-3.0, 3.0]])
    return replace(whole, holes=(*whole.holes, lower @ np.array([[cos, sin], [-sin, cos]])))


def _scribble(rng: np.random.Generator) -> Figure:
    heading = rng.uniform(0, 6.3) + np.cumsum(np.cumsum(rng.normal(0, 0.22, 26)))
    steps = np.stack([np.cos(heading), np.sin(heading)], 1)
    line = np.cumsum(steps, 0)
    line *= 2 / float(np.ptp(line, axis=0).max())
    return Figure(strokes=(line,), thickness=rng.uniform(0.07, 0.16))


def _glyphs(rng: np.random.Generator) -> Figure:
    """A word in no script."""
    strokes = []
    for letter in range(int(rng.integers(2, 6))):
        for _ in range(int(rng.integers(2, 4))):
            ends = rng.uniform([-0.35, -0.6], [0.35, 0.6], (2, 2)) + np.array([letter, 0.0])
            bend = ends.mean(0) + rng.normal(0, 0.18, 2)
            strokes.append(np.array([ends[0], bend, ends[1]]))
    return Figure(strokes=tuple(strokes), thickness=rng.uniform(0.12, 0.22))


DISTRACTORS: tuple[Callable[[np.random.Generator], Figure], ...] = (
    _blob,
    _wedge,
    _arch,
    _ell,
    _tee,
    _chevron,
    _bar,
    _hollow,
    _half,
    _half,
    _scribble,
    _glyphs,
)
