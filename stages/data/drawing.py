"""How one thing is drawn: its place in the pixels, its texture, its colours.

H×W a canvas, h×w the window around one thing. Colours are RGB floats in 0..255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stages.data.outlines import Figure

SUPERSAMPLE = 4  # samples a pixel and axis: coverage in steps of 1/16
LUMA = np.array([0.30, 0.59, 0.11], np.float32)  # how much the eye makes of R, G and B


@dataclass(frozen=True, eq=False)
class Stencil:
    """Which pixels a posed figure covers.

    Attributes:
        left, top: the canvas pixel of the window's first pixel; may lie outside the canvas.
        coverage: float32 [h, w] in 0..1.
        rim: float32 [h, w] in 0..1, the part of the coverage that an outline paints; or None.
    """

    left: int
    top: int
    coverage: np.ndarray
    rim: np.ndarray | None = None

    @property
    def solid(self) -> np.ndarray:
        """bool [h, w]: the pixels that are the figure's, covered by half or more."""
        return self.coverage >= 0.5

    def at(self, left: int, top: int) -> Stencil:
        """The same pixels elsewhere."""
        return replace(self, left=left, top=top)

    def overlap(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where window and canvas [height, width] meet: in the canvas, and in the window."""
        h, w = self.coverage.shape
        y1, x1 = max(0, self.top), max(0, self.left)
        y2, x2 = max(y1, min(height, self.top + h)), max(x1, min(width, self.left + w))
        inside = (slice(y1 - self.top, y2 - self.top), slice(x1 - self.left, x2 - self.left))
        return (slice(y1, y2), slice(x1, x2)), inside


def rasterise(figure: Figure, outline: float = 0.0) -> Stencil:
    """The pixels of a posed figure, smoothed by supersampling.

    Args:
        outline: the width of a line along the inner side of its edge, in pixels; 0: none.
    """
    low, high = figure.extent()
    left, top = (int(v) for v in np.floor(low))
    w, h = (int(v) + 1 for v in np.floor(high) - np.floor(low))
    # Pillow counts from the middle of the first sample, we from its edge.
    to_samples = np.eye(2) * SUPERSAMPLE
    shift = np.array([-left, -top]) * SUPERSAMPLE - 0.5
    fine = figure.mapped(to_samples, shift)

    image = Image.new("L", (w * SUPERSAMPLE, h * SUPERSAMPLE))
    draw = ImageDraw.Draw(image)
    for points in fine.solids:
        draw.polygon(points.ravel().tolist(), fill=255)
    for points in fine.strokes:
        draw.line(points.ravel().tolist(), fill=255, width=max(SUPERSAMPLE, round(fine.thickness)))
    for points in fine.holes:
        draw.polygon(points.ravel().tolist(), fill=0)
    coverage = _share(image)
    if not outline:
        return Stencil(left, top, coverage)
    edge = Image.new("L", image.size)
    draw = ImageDraw.Draw(edge)
    for points in fine.solids + fine.holes:
        closed = np.concatenate([points, points[:2]])
        draw.line(closed.ravel().tolist(), fill=255, width=round(2 * outline * SUPERSAMPLE))
    return Stencil(left, top, coverage, np.minimum(_share(edge), coverage))


def _share(image: Image.Image) -> np.ndarray:
    """A supersampled "L" image as float32 [h, w] in 0..1."""
    return np.asarray(image.reduce(SUPERSAMPLE), np.float32) / 255


# ----------------------------------------------------------------- texture


PATTERNS = ("plain", "fade", "stripes", "dots", "checks", "tiles", "noise")


def noise(
    rng: np.random.Generator, height: int, width: int, period: float, octaves: int
) -> np.ndarray:
    """Smooth noise: float32 [height, width], 0.5 on average and mostly in 0..1.

    Args:
        period: pixels from one bump to the next in the coarsest octave, halved in each further.
    """
    total = np.full((height, width), 0.5, np.float32)
    strength = 0.5
    for _ in range(octaves):
        w, h = width / period, height / period
        grid = rng.random((math.ceil(h) + 3, math.ceil(w) + 3), np.float32) - 0.5
        x, y = rng.uniform(0.5, 1.5, 2)
        tile = Image.fromarray(grid).resize(
            (width, height), Image.Resampling.BICUBIC, (x, y, x + w, y + h)
        )
        total += np.asarray(tile) * (2 * strength)
        strength, period = strength / 2, max(period / 2, 1.0)
    return total


def pattern(rng: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    """A random pattern to blend two colours by: float32 [height, width] in 0..1.

    Args:
        period: pixels from one stripe, dot or tile to the next.
    """
    kind = PATTERNS[rng.integers(len(PATTERNS))]
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "noise":
        return np.clip(noise(rng, height, width, period, 2), 0, 1)
    angle = rng.uniform(-math.pi, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    if kind == "fade":
        u = x * cos + y * sin
        return (u - u.min()) / max(float(np.ptp(u)), 1.0)
    turns = 2 * math.pi / period
    u = np.sin(x * (cos * turns) + y * (sin * turns) + rng.uniform(0, 6.3))
    edge = rng.uniform(0.7, 3.0)  # from a soft wave to a sharp step
    if kind == "stripes":
        return np.clip(u * edge + rng.uniform(0.2, 0.8), 0, 1)
    v = np.sin(y * (cos * turns) - x * (sin * turns) + rng.uniform(0, 6.3))
    if kind == "dots":
        return np.clip((u + v - rng.uniform(0.3, 0.9)) * edge + 0.5, 0, 1)
    if kind == "checks":
        return np.clip(u * v * (2 * edge) + 0.5, 0, 1)
    return np.clip((np.maximum(u, v) - 0.85) * (4 * edge), 0, 1)


# ----------------------------------------------------------------- colours


def colours(rng: np.random.Generator, count: int, vivid: bool) -> np.ndarray:
    """float32 [count, 3]: any hue; vivid for things, muted for what lies behind them."""
    hue = rng.uniform(0, 6, (count, 1))
    saturation = rng.uniform(0.1, 0.9, (count, 1)) if vivid else rng.uniform(0.0, 0.45, (count, 1))
    value = rng.uniform(0.2, 1.0, (count, 1)) if vivid else rng.uniform(0.3, 0.85, (count, 1))
    k = (np.array([5.0, 3.0, 1.0]) + hue) % 6
    mixed = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return (255 * mixed).astype(np.float32)


def _unlike(rng: np.random.Generator, ground: np.ndarray, contrast: float) -> np.ndarray:
    """Two colours [2, 3] that differ from `ground` by `contrast` to three times that, or nearly."""
    drawn = colours(rng, 16, vivid=True)
    distance = np.sqrt(((drawn - ground) ** 2) @ LUMA)
    miss = np.maximum(contrast - distance, 0) * 4 + np.maximum(distance - 3 * contrast, 0)
    return drawn[miss.argsort(kind="stable")[:2]]


def blend(first: np.ndarray, second: np.ndarray | float, share: np.ndarray | float) -> np.ndarray:
    """`first` where share is 0, `second` where it is 1; float32."""
    return first + np.asarray(share, np.float32) * (second - first)


def backdrop(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """What lies behind everything: float32 [height, width, 3], about 0..255."""
    ground = colours(rng, 4, vivid=False)
    ground[1] = blend(ground[0], ground[1], rng.uniform(0.3, 0.8))
    ground[3] = blend(ground[2], ground[3], rng.uniform(0.2, 0.7))
    uneven = noise(rng, height, width, rng.uniform(30, 110), 3)
    canvas = blend(ground[0], ground[1], uneven[..., None])
    figured = pattern(rng, height, width, rng.uniform(6, 30))[..., None]
    if rng.random() < 0.5:  # two surfaces meet, along a wavy line
        border = noise(rng, height, width, rng.uniform(60, 160), 2)
        share = np.clip((border - rng.uniform(0.4, 0.6)) * rng.uniform(4, 40) + 0.5, 0, 1)
        canvas = blend(canvas, blend(ground[2], ground[3], figured), share[..., None])
    else:
        canvas = blend(canvas, ground[2], figured * rng.uniform(0.1, 0.5))
    grain = noise(rng, height, width, rng.uniform(1.5, 5), 1) - 0.5
    canvas += grain[..., None] * rng.uniform(5, 45)
    return canvas


def paint(rng: np.random.Generator, canvas: np.ndarray, stencil: Stencil, contrast: float) -> None:
    """Lay a thing on the canvas, in colours that stand off what is there.

    Args:
        canvas: float32 [H, W, 3] in 0..255, changed in place.
        stencil: where; it may reach over the canvas's edge, its rim is drawn if it has one.
        contrast: the least distance of its colours to the mean colour beneath, in 0..255.
    """
    outer, inner = stencil.overlap(*canvas.shape[:2])
    beneath = canvas[outer]
    if not beneath.size:
        return
    if rng.random() < 0.4:
        _shadow(rng, canvas, stencil)
    h, w = stencil.coverage.shape
    ground = beneath.reshape(-1, 3).mean(0)
    first, second = _unlike(rng, ground, contrast)
    second = blend(first, second, rng.uniform(0.3, 0.8))
    period = max(3.0, max(h, w) * math.exp(rng.uniform(math.log(0.08), math.log(0.4))))
    skin = blend(first, second, pattern(rng, h, w, period)[inner][..., None])
    if stencil.rim is not None:
        line = first * rng.uniform(0.3, 0.7) if rng.random() < 0.6 else blend(first, 255.0, 0.6)
        skin = blend(skin, line, stencil.rim[inner][..., None])
    beneath += stencil.coverage[inner][..., None] * (skin - beneath)


def _shadow(rng: np.random.Generator, canvas: np.ndarray, stencil: Stencil) -> None:
    """Darken the canvas where the thing's soft shadow falls: a little to one side of it."""
    h, w = stencil.coverage.shape
    blur = max(1, round(max(h, w) * rng.uniform(0.02, 0.06)))
    pad = 3 * blur
    padded = np.zeros((h + 2 * pad, w + 2 * pad), np.uint8)
    padded[pad:-pad, pad:-pad] = stencil.coverage * 255
    soft = np.asarray(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(blur)))
    dx, dy = (round(v) for v in rng.uniform(-2.5, 2.5, 2) * blur)
    cast = Stencil(stencil.left - pad + dx, stencil.top - pad + dy, soft)
    outer, inner = cast.overlap(*canvas.shape[:2])
    canvas[outer] *= 1 - soft[inner][..., None] * np.float32(rng.uniform(0.2, 0.5) / 255)


def photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """The canvas in uneven light, a little blurred, with a sensor's noise: uint8 [H, W, 3]."""
    height, width = canvas.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.uniform(-0.15, 0.15))
    down = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(rng.uniform(-0.15, 0.15))
    lit = canvas * (across + down[:, None] + np.float32(rng.uniform(0.85, 1.1)))[..., None]
    image = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.9)))
    seen = rng.standard_normal(canvas.shape, np.float32)
    seen *= np.float32(rng.uniform(1, 7))
    seen += np.asarray(blurred)
    return np.clip(seen + 0.5, 0, 255, out=seen).astype(np.uint8)
