"""`DATA=shapes`: scenes the project draws itself, told apart by shape and never by colour.

H×W a scene, h×w the window around one thing, N objects in it, K classes.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.drawing import Stencil, backdrop, paint, photograph, rasterise
from stages.data.outlines import DISTRACTORS, OUTLINES, pose
from stages.errors import InputError
from stages.processes import spread
from stages.store import Job, stage

CLASSES: tuple[str, ...] = tuple(sorted(OUTLINES))
HIDDEN = 0.4  # at most this share of an object is covered, or cut off by the image's edge
LEAST_SIDE = 6  # of the box around what is seen of an object, in pixels
LEAST_AREA = 30  # of what is seen of an object, in pixels
TRIES = 20  # places tried before a thing is left out
CONTRAST = 32.0  # as `ShapesConfig.contrast`
QUALITY = 90  # of the JPEG files
# The second word of every seed: what is drawn for one never occurs in another.
TRAIN, TEST, OBJECTS = 0, 1, 2


@dataclass(frozen=True)
class ShapesConfig:
    """How many scenes, and how hard.

    Attributes:
        train, test: scenes in the two splits.
        width, height: of a scene, in pixels.
        seed: another seed, other scenes; not negative.
        objects: the most objects in a scene; there is at least one.
        clutter: the most things of no class in a scene.
        smallest, largest: the longer side of a whole object's box, in pixels, spread evenly
            over its logarithm; never more than 0.6 of the scene's shorter side.
        contrast: how far an object's colours are from the mean colour behind it where chance
            allows, in 0..255; less is harder.
    """

    train: int
    test: int
    width: int = 256
    height: int = 192
    seed: int = 0
    objects: int = 8
    clutter: int = 9
    smallest: float = 14.0
    largest: float = 110.0
    contrast: float = CONTRAST

    def __post_init__(self) -> None:
        """Refuse what no scene can be drawn from."""
        if min(self.train, self.test, self.seed, self.clutter) < 0:
            raise InputError("shapes: train, test, seed and clutter must not be negative")
        if not 1 <= self.objects <= 254:  # the index map is uint8, and 255 is VOC's void
            raise InputError(f"shapes: objects must be 1 to 254, not {self.objects}")
        if min(self.width, self.height) < 32 or self.largest < 20:
            raise InputError("shapes: a scene needs sides of 32 and a largest of 20 or more")
        if not 0 < self.smallest <= self.largest:
            raise InputError("shapes: smallest must be positive and at most largest")


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn scene. Objects are in the order in which they were laid down.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        labels: int64 [N], from 1; `CLASSES[label - 1]` is the name.
        boxes: float32 [N, 4], x1 y1 x2 y2, the extent of the visible pixels: x1 y1 the first
            column and row, x2 y2 one past the last.
        index: uint8 [H, W], 0 where no object is seen, i where the i-th is, from 1.
        hidden: float32 [N] in 0..HIDDEN, the share of the whole object that is not seen.
        truncated: bool [N], whether the image's edge cuts the object.
        occluded: bool [N], whether something covers a part of it.
    """

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    index: np.ndarray
    hidden: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray


# ------------------------------------------------------------------ scenes


def draw_scene(rng: np.random.Generator, config: ShapesConfig) -> Scene:
    """A scene: a textured backdrop, things of no class, and 1 to `config.objects` objects."""
    pile = arrange(rng, config)
    canvas = backdrop(rng, config.height, config.width)
    for _, stencil in pile.things:
        paint(rng, canvas, stencil, config.contrast)
    whole, inside, seen = (np.array(areas) for areas in (pile.whole, pile.inside, pile.seen))
    return Scene(
        photograph(rng, canvas),
        np.array(pile.labels, np.int64),
        np.array([extent(pile.index == i) for i in range(1, len(whole) + 1)], np.float32),
        pile.index,
        (1 - seen / whole).astype(np.float32),
        inside < whole,
        seen < inside,
    )


class Pile:
    """Things laid one over another on a canvas, the last on top.

    Attributes:
        things: label (0: no class) and stencil of each, in the order they were laid.
        labels: of the objects among them.
        whole: pixels of each object as if it lay alone on an endless canvas.
        inside: of these, the pixels on the canvas.
        seen: of these, the pixels that nothing covers.
        index: uint8 [H, W], 0 or the object seen there, from 1.
    """

    def __init__(self, height: int, width: int) -> None:
        self.things: list[tuple[int, Stencil]] = []
        self.labels: list[int] = []
        self.whole: list[int] = []
        self.inside: list[int] = []
        self.seen: list[int] = []
        self.index = np.zeros((height, width), np.uint8)

    def lay(self, label: int, stencil: Stencil) -> bool:
        """Lay a thing on top, unless it or an object beneath were then hidden too far."""
        outer, inner = stencil.overlap(*self.index.shape)
        solid = stencil.solid
        whole, mask = int(solid.sum()), solid[inner]
        area = int(mask.sum())
        if label and (area < (1 - HIDDEN) * whole or not _recognisable(mask, area)):
            return False
        window = self.index[outer]
        covered = np.bincount(window[mask], minlength=len(self.whole) + 1)[1:]
        for i in covered.nonzero()[0]:
            left = self.seen[i] - int(covered[i])
            if left < (1 - HIDDEN) * self.whole[i]:
                return False
            rest = self.index == i + 1
            rest[outer] &= ~mask
            if not _recognisable(rest, left):
                return False
        for i in covered.nonzero()[0]:
            self.seen[i] -= int(covered[i])
        self.things.append((label, stencil))
        if label:
            self.labels.append(label)
            self.whole.append(whole)
            self.inside.append(area)
            self.seen.append(area)
        window[mask] = len(self.whole) if label else 0
        return True


def arrange(rng: np.random.Generator, config: ShapesConfig) -> Pile:
    """What lies where in a scene; nothing is painted yet."""
    pile = Pile(config.height, config.width)
    largest = min(config.largest, 0.6 * min(config.height, config.width))
    smallest = min(config.smallest, largest)

    def add(label: int) -> None:
        stencil = _thing(rng, label, _evenly(rng, smallest, largest))
        for _ in range(TRIES):
            if pile.lay(label, _somewhere(rng, stencil, pile)):
                return

    objects = int(rng.integers(1, config.objects + 1))
    clutter = int(rng.integers(0, config.clutter + 1))
    for turn in rng.permutation(objects + clutter):
        add(int(rng.integers(1, len(CLASSES) + 1)) if turn < objects else 0)
    while not pile.labels:  # the only objects were too small to recognise
        add(int(rng.integers(1, len(CLASSES) + 1)))
    return pile


def _evenly(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between the two, spread evenly over its logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _thing(rng: np.random.Generator, label: int, size: float) -> Stencil:
    """An object of a class, or with label 0 a thing of none; its box's longer side is `size`."""
    if label:
        figure = OUTLINES[CLASSES[label - 1]](rng)
    else:
        figure = DISTRACTORS[int(rng.integers(len(DISTRACTORS)))](rng)
    return rasterise(pose(rng, figure, size), _outline(rng, size))


def _outline(rng: np.random.Generator, size: float) -> float:
    """The width of the line along a thing's edge, in pixels; mostly there is none."""
    return max(0.7, size * rng.uniform(0.02, 0.06)) if rng.random() < 0.3 else 0.0


def _somewhere(rng: np.random.Generator, stencil: Stencil, pile: Pile) -> Stencil:
    """The thing at a random place: inside the canvas, over its edge, or against another thing."""
    height, width = pile.index.shape
    h, w = stencil.coverage.shape
    chance = rng.random()
    if chance < 0.35 and pile.things:
        _, other = pile.things[int(rng.integers(len(pile.things)))]
        other_h, other_w = other.coverage.shape
        angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.0)
        x = other.left + (other_w - w + math.cos(angle) * reach * (other_w + w)) / 2
        y = other.top + (other_h - h + math.sin(angle) * reach * (other_h + h)) / 2
        return stencil.at(round(x), round(y))
    over = 0.3 if chance < 0.5 else 0.0
    x = rng.uniform(-over * w, width - (1 - over) * w)
    y = rng.uniform(-over * h, height - (1 - over) * h)
    return stencil.at(round(x), round(y))


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of the true pixels of a bool [H, W], of which there is at least one."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _recognisable(mask: np.ndarray, area: int) -> bool:
    if area < LEAST_AREA:
        return False
    x1, y1, x2, y2 = extent(mask)
    return min(x2 - x1, y2 - y1) >= LEAST_SIDE


# ---------------------------------------------------------- single objects


def draw_objects(
    seed: int, first: int, count: int, side: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Single objects, cropped and warped to a square as R-CNN warps a proposal.

    Object n is the same whichever call draws it, and no part of any scene.

    Args:
        seed: not negative.
        first, count: objects first .. first + count - 1.
        side: of a crop, in pixels.

    Returns:
        uint8 [count, side, side, 3], RGB, and int64 [count]: 1..K, or 0 for the one crop in
        K + 1 that holds no object.
    """
    crops = np.empty((count, side, side, 3), np.uint8)
    labels = np.empty(count, np.int64)
    for i in range(count):
        rng = np.random.default_rng([seed, OBJECTS, first + i])
        labels[i] = rng.integers(len(CLASSES) + 1)
        crop = Image.fromarray(_draw_crop(rng, int(labels[i])))
        crops[i] = np.asarray(crop.resize((side, side), Image.Resampling.BILINEAR))
    return crops, labels


def _draw_crop(rng: np.random.Generator, label: int) -> np.ndarray:
    """What lies around one object, as large as it would be in a scene: uint8 [h, w, 3]."""
    # No larger than the crop: what a scene shows larger is shrunk to it anyway.
    size = _evenly(rng, 14, 64)
    stencil = _thing(rng, label, size)
    h, w = stencil.coverage.shape
    # The crop's four edges lie about an eighth of the object outside its box, some inside.
    left, top, right, bottom = np.clip(rng.normal(0.125, 0.08, 4), -0.08, 0.3) * [w, h, w, h]
    if not label:  # what has no class lies anywhere, whole or in part
        left, top = rng.uniform(-0.5, 0.5, 2) * [w, h]
        right, bottom = rng.uniform(0, 0.5) * w - left, rng.uniform(0, 0.5) * h - top
    pile = Pile(max(8, round(h + top + bottom)), max(8, round(w + left + right)))
    for _ in range(int(rng.integers(0, 2))):
        pile.lay(0, _neighbour(rng, size, pile))
    middle = stencil.at(round(left), round(top))
    if (label or rng.random() < 0.7) and not pile.lay(label, middle):
        return _draw_crop(rng, label)  # too little was left of it
    if rng.random() < 0.35:
        pile.lay(0, _neighbour(rng, size, pile))
    canvas = backdrop(rng, *pile.index.shape)
    for _, thing in pile.things:
        paint(rng, canvas, thing, CONTRAST)
    return photograph(rng, canvas)


def _neighbour(rng: np.random.Generator, size: float, pile: Pile) -> Stencil:
    """A thing that lies across the crop's edge. Whatever its shape, here it counts as clutter."""
    label = int(rng.integers(-len(CLASSES), len(CLASSES) + 1))
    stencil = _thing(rng, max(0, label), size * rng.uniform(0.4, 1.2))
    height, width = pile.index.shape
    h, w = stencil.coverage.shape
    angle = rng.uniform(0, 2 * math.pi)
    x, y = width / 2 * (1 + math.cos(angle)), height / 2 * (1 + math.sin(angle))
    return stencil.at(round(x - w / 2), round(y - h / 2))


def draw_chunk(chunk: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`draw_objects` of (seed, first, count, side), as a worker process calls it."""
    return draw_objects(*chunk)


# ------------------------------------------------------- the data set on disk


@stage(version=1)
def draw_shapes(job: Job, config: ShapesConfig) -> None:
    """Draw both splits into `job.folder`, laid out as PASCAL VOC is.

    `JPEGImages/<id>.jpg`, `Annotations/<id>.xml`, `SegmentationObject/<id>.png` whose pixel
    value is the place of the object in the XML, from 1, and `ImageSets/Main/trainval.txt` and
    `test.txt`. A scene that is there already is not drawn again.
    """
    for name in ("JPEGImages", "Annotations", "SegmentationObject", "ImageSets/Main"):
        (job.folder / name).mkdir(parents=True, exist_ok=True)
    splits = ((TRAIN, config.train, "trainval"), (TEST, config.test, "test"))
    scenes = [(split, n) for split, count, _ in splits for n in range(count)]
    missing = [scene for scene in scenes if not _is_drawn(job.folder, scene)]
    drawing = spread(partial(_write_scene, job.folder, config), missing, job.workers, at_once=8)
    for _ in drawing:
        pass
    for split, count, name in splits:
        ids = "".join(f"{_name((split, n))}\n" for n in range(count))
        _write(job.folder / "ImageSets" / "Main" / f"{name}.txt", ids.encode())


def _name(scene: tuple[int, int]) -> str:
    split, n = scene
    return f"{'test' if split == TEST else 'train'}_{n:05d}"


def _files(folder: Path, scene: tuple[int, int]) -> tuple[Path, Path, Path]:
    """A scene's photograph, masks and annotation."""
    name = _name(scene)
    return (
        folder / "JPEGImages" / f"{name}.jpg",
        folder / "SegmentationObject" / f"{name}.png",
        folder / "Annotations" / f"{name}.xml",
    )


def _is_drawn(folder: Path, scene: tuple[int, int]) -> bool:
    return all(file.exists() for file in _files(folder, scene))


def _write_scene(folder: Path, config: ShapesConfig, scene: tuple[int, int]) -> None:
    drawn = draw_scene(np.random.default_rng([config.seed, *scene]), config)
    photo, masks, annotation = _files(folder, scene)
    _write(photo, _encoded(Image.fromarray(drawn.image), "JPEG", quality=QUALITY))
    indexed = Image.fromarray(drawn.index)
    indexed.putpalette(voc_palette())
    _write(masks, _encoded(indexed, "PNG"))
    _write(annotation, annotated(photo.name, drawn).encode())


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _write(file: Path, content: bytes) -> None:
    """Write under another name first: a file that bears its own name is whole."""
    partial_file = file.with_name(f"{file.name}.partial")
    partial_file.write_bytes(content)
    os.replace(partial_file, file)


def annotated(filename: str, scene: Scene) -> str:
    """The scene's VOC annotation, whose pixels count from 1 and whose boxes include their ends."""
    height, width = scene.index.shape
    objects = "".join(
        f"\t<object>\n\t\t<name>{CLASSES[label - 1]}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(truncated)}</truncated>\n"
        f"\t\t<occluded>{int(occluded)}</occluded>\n"
        f"\t\t<difficult>0</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{x1 + 1:.0f}</xmin>\n\t\t\t<ymin>{y1 + 1:.0f}</ymin>\n"
        f"\t\t\t<xmax>{x2:.0f}</xmax>\n\t\t\t<ymax>{y2:.0f}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for label, (x1, y1, x2, y2), truncated, occluded in zip(
            scene.labels, scene.boxes, scene.truncated, scene.occluded, strict=True
        )
    )
    return (
        f"<annotation>\n\t<folder>shapes</folder>\n\t<filename>{filename}</filename>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n\t<segmented>1</segmented>\n{objects}</annotation>\n"
    )


def voc_palette() -> list[int]:
    """VOC's colour map: R G B of each of 256 values, 0..255.

    Bits 0, 3, 6 of a value make its red, bits 1, 4, 7 its green, 2 and 5 its blue.
    """
    return [
        sum(((value >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
        for value in range(256)
        for channel in range(3)
    ]
