"""The lists of a data set in the VOC layout: `ImageSets/Main/*.txt`, a line for each image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from reprlib import repr as shown

from stages.data.faults import Faults
from stages.data.files import image_stem, is_writable, leaves_its_folder
from stages.errors import InputError, check_regular, one_line

# The second column of the devkit's list of a class: it is in the image, it is not, or it is hard to see.
COLUMN = re.compile(r"\s+(?:-1|0|1)$")
QUOTED = re.compile(r'"(.*)"')


def find_lists(folder: Path) -> dict[str, Path]:
    """All lists in the folder by their names, `train` for `train.txt`, as these are written."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # no folder, or not ours to look into
        return {}
    return {
        path.stem: path
        for path in paths
        if path.suffix.lower() == ".txt" and not path.name.startswith(".") and path.is_file()
    }


def is_of_a_class(name: str, lists: Iterable[str]) -> bool:
    """Whether a list is one of a class: `cat_train`, where there is a `train`."""
    return any(name.lower().endswith(f"_{other.lower()}") for other in lists)


def lists_nothing(path: Path) -> bool:
    """Whether the list is there for form's sake; one that cannot be read lists something."""
    try:
        return not lines_of(path)
    except InputError:
        return False


def lines_of(path: Path) -> list[str]:
    """The lines that are not blank, without the blanks around them.

    Raises:
        InputError: the file is no text.
    """
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {one_line(error)}") from None
    return [line.strip() for line in lines if line.strip()]


def read_split(
    path: Path, there: Callable[[str], bool] = lambda name: False, faults: Faults | None = None
) -> list[str]:
    """The image names in a list, as the data set calls them.

    A line is a name, blanks and all, wherever there is such an image. It may be in quotes, have the
    column of the devkit's class lists behind it (if every line has, and no image is called so), the
    file's ending, or folders in front.

    Args:
        path: the list.
        there: whether the data set has an image, or an annotation, of that name.
        faults: takes what is wrong with single lines, which are left out; None: they are refused here.

    Raises:
        InputError: the file is no text, or lists nothing; without `faults`, a line is at fault.
    """
    gathered = Faults(path) if faults is None else faults
    lines = lines_of(path)
    if not lines:
        raise InputError(f"{path}: lists no image")
    column = all(COLUMN.search(line) for line in lines) and not any(there(line) for line in lines)
    names: dict[str, None] = {}
    for line in lines:
        name = _name(line, column, there)
        with gathered.caught():
            check_name(path, name)
            if name in names:
                raise InputError(f"{path}: lists {name!r} twice")
            names[name] = None
    if faults is None:
        gathered.refuse()
    return list(names)


def check_name(path: Path, name: str) -> None:
    """Refuse a name that leads elsewhere, or that the files of a run cannot hold.

    Raises:
        InputError: naming the list.
    """
    if leaves_its_folder(name) or name == ".":
        raise InputError(f"{path}: {name!r} is not a plain file name")
    if not is_writable(name):
        raise InputError(f"{path}: no file can hold the name {shown(name)}")


def _name(line: str, column: bool, there: Callable[[str], bool]) -> str:
    """What the line calls the image; where there is none of any such name, the likeliest."""
    plain = COLUMN.sub("", line) if column else line
    quoted = QUOTED.fullmatch(plain)
    if quoted:
        plain = quoted[1].replace('\\"', '"')
    for name in (line, plain, *_as_paths(plain)):
        if there(name):
            return name
    return plain


def _as_paths(line: str) -> Iterator[str]:
    """What tools that list files mean by `a.jpg` and by `data/obj_train/a.jpg`: the longest first."""
    file = PurePosixPath(line.replace("\\", "/"))
    yield str(file)
    stem = file.stem if file.suffix.lower() == ".xml" else image_stem(file.name)
    if stem:
        parts = (*file.parts[:-1], stem)
        for first in range(len(parts)):
            yield "/".join(parts[first:])
