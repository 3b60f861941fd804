"""Oxford-IIIT Pet as a detection data set in the VOC layout: whole animals, cat and dog.

The published boxes are of heads, and missing for half of the test images. So the mask of an
animal is its trimap's foreground and border together, and its box is the mask's extent.

H, W an image's height and width.

Source: Parkhi et al., Cats and Dogs, CVPR 2012; https://www.robots.ox.ac.uk/~vgg/data/pets/.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.data.decode import decode
from stages.data.size import size_of
from stages.data.voc_lists import check_name, lines_of
from stages.errors import InputError

BACKGROUND = 2  # in a trimap: 1 is foreground, 3 the border between them
SPECIES = {"1": "cat", "2": "dog"}


def arrange_pets(published: Path, root: Path) -> None:
    """Turn the published archives' content into the VOC layout, its images moved, not copied.

    Args:
        published: holds `images/` and `annotations/`.
        root: the folder to make.

    Raises:
        InputError: a file is missing or broken.
    """
    for part in ("JPEGImages", "Annotations", "SegmentationObject", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for split in ("trainval", "test"):
        species = _species(published / "annotations" / f"{split}.txt")
        kept = [
            stem
            for stem, name in tqdm(species.items(), desc=f"pets, {split}", unit="image")
            if _arrange(published, root, stem, name)
        ]
        if len(kept) < len(species):
            count = len(species) - len(kept)
            print(f"{split}: left out {count} images without a mask of their size", file=sys.stderr)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{s}\n" for s in kept))


def _species(path: Path) -> dict[str, str]:
    """Image name and species of each line: name, breed, species (1 or 2), breed of the species."""
    species: dict[str, str] = {}
    for line in lines_of(path):
        row = line.split()
        if len(row) != 4 or row[2] not in SPECIES or "/" in row[0]:
            raise InputError(f"{path}: {' '.join(row)!r} is no line of an image and its species")
        check_name(path, row[0])
        if row[0] in species:
            raise InputError(f"{path}: lists {row[0]!r} twice")
        species[row[0]] = SPECIES[row[2]]
    if not species:
        raise InputError(f"{path}: lists no image")
    return species


def _arrange(published: Path, root: Path, stem: str, name: str) -> bool:
    """Whether the image has a mask; if so it is moved, its mask and annotation written."""
    photograph = published / "images" / f"{stem}.jpg"
    trimap = published / "annotations" / "trimaps" / f"{stem}.png"
    width, height = size_of(photograph)
    mask = decode(trimap)[:, :, 0] != BACKGROUND
    if mask.shape != (height, width) or not mask.any():
        return False
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    Image.fromarray(mask.astype(np.uint8)).save(root / "SegmentationObject" / f"{stem}.png")
    # VOC's pixels count from 1, and its boxes include their ends.
    (root / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation>\n\t<filename>{escape(stem)}.jpg</filename>\n"
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"\t<segmented>1</segmented>\n\t<object>\n\t\t<name>{name}</name>\n"
        f"\t\t<difficult>0</difficult>\n\t\t<bndbox>"
        f"<xmin>{columns[0] + 1}</xmin><ymin>{rows[0] + 1}</ymin>"
        f"<xmax>{columns[-1] + 1}</xmax><ymax>{rows[-1] + 1}</ymax></bndbox>\n"
        "\t</object>\n</annotation>\n"
    )
    os.rename(photograph, root / "JPEGImages" / photograph.name)
    return True
