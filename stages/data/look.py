"""One look at an image file, whole: whether it can be read, what is odd about it, and what it is alike.

Every image of a data set is looked at once before anything is trained. Free of torch, for worker processes.

H, W an image's height and width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.decode import oddities_of, read_photograph
from stages.data.depth import Range
from stages.errors import InputError

# Of a fingerprint, comparisons of neighbouring cells: rows, and in each.
ROWS, COLUMNS = 16, 16


@dataclass(frozen=True)
class Look:
    """What a look at an image file tells; plain values, that JSON holds.

    Attributes:
        fault: why it cannot be read, in one line without its name; None: it can. Where it cannot, the size
            is 0 x 0 and the fingerprint "".
        cut_short: whether it lacks its end, but was read all the same; see `stages.data.cut_short`.
        width, height: in pixels as stored, before EXIF's orientation turns it.
        orientation: EXIF's, 1 (as stored) to 8; from 5 on the upright image's sides are exchanged.
        stretched: the values that became black and white, where the file has more than 8 bits and its own
            range; see `stages.data.depth`.
        digest: of the file's bytes, 32 hexadecimal digits; "" where there are none to read.
        fingerprint: of the upright picture, 64 hexadecimal digits; see `fingerprint_of`.
    """

    fault: str | None
    cut_short: bool
    width: int
    height: int
    orientation: int
    stretched: Range | None
    digest: str
    fingerprint: str

    def __post_init__(self) -> None:
        if self.stretched is not None:  # JSON has lists
            object.__setattr__(self, "stretched", tuple(self.stretched))

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as `decode` gives the image."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)

    @property
    def oddities(self) -> list[str]:
        """What a person should know of a file that can be read, in a few words each."""
        return oddities_of(self.cut_short, self.stretched)


def look_at(path: Path, most: int | None = None) -> Look:
    """Read an image file, whole, as `decode` does; whatever is wrong with it is in the answer.

    Args:
        most: pixels that it may have; None: `stages.data.opening.MOST_PIXELS`.
    """
    try:
        photograph = read_photograph(path, most)
    except InputError as error:
        fault = error.line.removeprefix(f"{path}: ")
        return Look(fault, False, 0, 0, 1, None, _digest(path), "")
    return Look(
        None,
        photograph.cut_short,
        photograph.width,
        photograph.height,
        photograph.orientation,
        photograph.stretched,
        _digest(path),
        fingerprint_of(photograph.pixels),
    )


def fingerprint_of(pixels: np.ndarray) -> str:
    """What a picture looks like from afar, as 256 bits in hexadecimal, row by row.

    Of a grey thumbnail of 16 rows of 17 cells, whatever the picture's shape, a bit for each two neighbours in
    a row: whether the right one is the brighter. Encoding, scaling and brightness hardly change that.

    Args:
        pixels: uint8 [H, W, 3].

    Source: the difference hash of N. Krawetz, Kind of Like That (2013), of more cells.
    """
    size = (COLUMNS + 1, ROWS)
    thumbnail = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
    cells = np.asarray(thumbnail.convert("L"))
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def _digest(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe would never end
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except (OSError, ValueError):
        return ""
