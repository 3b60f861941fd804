"""A person's photographs: which files are meant, read ahead of their use, and where their pictures go.

H, W an image's height and width.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from glob import glob
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.ahead import ahead
from stages.data.decode import Photograph, read_photograph
from stages.data.files import IMAGE_SUFFIXES, is_image
from stages.errors import InputError, expand, too_long

KINDS = " ".join(IMAGE_SUFFIXES)
THREADS = 2  # that read ahead: half a dozen photographs are in memory at most


def photographs(arguments: Sequence[str]) -> list[Path]:
    """The files that are meant, each once, in the order given; a folder's and a glob's by name.

    Args:
        arguments: each a file, a folder (what lies in it, not below), a glob (`**`: also below), or
            several of them, as a shell would part them: `IMAGE="a.jpg 'my b.jpg'"`.

    Raises:
        InputError: one of them leads to no image. Whether a file is one, only `decoded` finds out.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for path in _meant(argument):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _meant(argument: str) -> list[Path]:
    if not argument.strip():
        raise InputError("IMAGE=: takes a photograph, a folder of them or a glob")
    found = _named(argument)  # as one name first: names may have blanks
    if found:
        return found
    parts = {part: _named(part) for part in _parted(argument)}
    missing = [part for part, here in parts.items() if not here]
    if missing:
        # Where no part is anything, it was meant as one name.
        what = argument if len(missing) == len(parts) else missing[0]
        raise InputError(f"{what}: no such file or folder, and no file matches it")
    return [path for here in parts.values() for path in here]


def _parted(argument: str) -> list[str]:
    try:
        return shlex.split(argument) or [argument]
    except ValueError:  # a quote in a name
        return [argument]


def _named(name: str) -> list[Path]:
    """The image files of a file's, a folder's or a glob's name; none: there is nothing of that name.

    Raises:
        InputError: there is, but no image.
    """
    if too_long(Path(name)):  # of many files, one after the other
        return []
    path = expand(name)
    if os.path.isfile(path):
        return [path]
    is_folder = os.path.isdir(path)
    matched = (
        list(path.iterdir()) if is_folder else [Path(n) for n in glob(str(path), recursive=True)]
    )
    found = sorted(one for one in matched if is_image(one.name) and os.path.isfile(one))
    if is_folder and not found:
        raise InputError(f"{path}: no image in this folder ({KINDS}); '{path}/**' looks below too")
    if matched and not found:
        raise InputError(f"{path}: nothing that matches it is an image ({KINDS})")
    return found


def add_limit(parser: argparse.ArgumentParser) -> None:
    """The option of how many megapixels a photograph may have: `most_pixels`, None where not given."""
    parser.add_argument(
        "--most-megapixels",
        dest="most_pixels",
        type=_megapixels,
        help="that a photograph may have, 89 without it; larger ones are taken for bombs. Decoding takes "
        "10 bytes a pixel",
    )


def _megapixels(text: str) -> int:
    return int(float(text) * 1e6)


def decoded(
    paths: Sequence[Path], label: str, most: int | None = None
) -> Iterator[tuple[Path, np.ndarray]]:
    """Each photograph and its pixels, uint8 [H, W, 3], a few of them in memory at a time.

    Of several, those that are unreadable are named on stderr and left out, and a bar shows how
    far it is. What is odd about one that is read is said there too.

    Args:
        label: of the progress bar.
        most: pixels that a photograph may have, as in `read_photograph`.

    Raises:
        InputError: at the end, if any was left out; at once, if it is the only one.
    """
    left_out = 0
    with tqdm(total=len(paths), desc=label, unit="image", disable=len(paths) == 1) as bar:
        read = ahead(partial(_attempt, most), paths, THREADS)
        for path, photograph in zip(paths, read, strict=True):
            if not isinstance(photograph, InputError):
                for oddity in photograph.oddities:
                    bar.write(f"-- {printable(path)}: {oddity}", file=sys.stderr)
                yield path, photograph.pixels
            elif len(paths) == 1:
                raise photograph
            else:
                left_out += 1
                bar.write(f"-- left out: {photograph.line}", file=sys.stderr)
            bar.update()
    if left_out:
        raise InputError(f"{left_out} of {len(paths)} photographs are unreadable and were left out")


def _attempt(most: int | None, path: Path) -> Photograph | InputError:
    try:
        return read_photograph(path, most)
    except InputError as error:  # the others are read all the same
        return error


def pictures_of(paths: Sequence[Path], out: Path) -> list[Path]:
    """Where each photograph's picture goes: `<out>/<its name>.png`.

    Photographs from several folders go into folders of the same names. No two meet: `a.jpg` and
    `a.png` become `a.jpg.png` and `a.png.png`.

    Raises:
        InputError: one would be written over a photograph.
    """
    full = [os.path.abspath(path) for path in paths]
    shared = os.path.commonpath([os.path.dirname(name) for name in full])
    pictures = [out / f"{os.path.relpath(name, shared)}.png" for name in full]
    real = {os.path.realpath(name) for name in full}
    for picture in pictures:
        if os.path.realpath(picture) in real:
            raise InputError(
                f"OUT={out}: {picture} is one of the photographs; choose another folder"
            )
    return pictures


def make_folder(folder: Path) -> None:
    """The folder, with those above it.

    Raises:
        InputError: it cannot be made: a file is in its place, say.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder: {error.strerror}") from None


def printable(path: Path) -> str:
    """A path as text that can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode(errors="replace")
