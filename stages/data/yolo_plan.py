"""Where a YOLO folder's splits and classes are said: data.yaml, Darknet's obj.data, or a list of names."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from stages.data.files import folders_below, is_image
from stages.data.yolo_files import YoloConfig, read_config, read_labels, read_list
from stages.errors import InputError, check_regular, one_line

# Of the classes, a line each: labelImg's and Label Studio's, CVAT's.
NAME_FILES = ("classes.txt", "obj.names", "data.names", "labels.txt", "_darknet.labels")
SPLITS = ("train", "val", "valid", "test", "trainval")
LOOKED_AT = 200  # images of a folder, for one with a label file
Plan = tuple[Path, YoloConfig]


def plan_of(root: Path, file: Path | None = None) -> Plan | None:
    """What says where the images and labels are, and what it says; None: nothing does.

    In the order in which they are looked for: `data.yaml` (or another .yaml that has its keys);
    `obj.data` with its lists (Darknet, CVAT); label files, which a list of the classes' names may
    go with: then the splits are the folders `train`, `val` .. where there are such, else all is one.

    Args:
        file: a .yaml that says so, whatever it is called.

    Raises:
        InputError: a file is there and broken.
    """
    if file is not None:
        return file, read_config(file)
    if (root / "data.yaml").is_file():
        return root / "data.yaml", read_config(root / "data.yaml")
    if (root / "obj.data").is_file():
        return root / "obj.data", _of_obj_data(root)
    return _of_label_files(root)


def _of_obj_data(root: Path) -> YoloConfig:
    """Darknet's `train = data/train.txt`, line by line; CVAT's archive lacks the folder `data/`."""
    path = root / "obj.data"
    said: dict[str, str] = {}
    for line in read_list(path):
        key, equals, value = line.partition("=")
        if equals:
            said[key.strip()] = value.strip()

    def found(entry: str) -> str:
        return next((e for e in (entry, entry.removeprefix("data/")) if (root / e).exists()), entry)

    if "names" not in said:
        raise InputError(f"{path}: has no `names = `, a file of the classes' names")
    names = read_names(root / found(said["names"]))
    splits = {key: [found(said[key])] for key in SPLITS if said.get(key)}
    if not splits:
        raise InputError(f"{path}: has no `train = `, a list of images")
    return YoloConfig(names, splits, None)


def _of_label_files(root: Path) -> Plan | None:
    names_file = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    split_folders = [name for name in SPLITS if (root / name).is_dir()]
    example = _labelled(root)
    if example is None:
        return None
    if names_file is None:
        names_file = next(
            (
                folder / name
                for folder in (example.parent, example.parent.parent)
                for name in NAME_FILES
                if (folder / name).is_file()
            ),
            None,
        )
    if names_file is not None:
        names = read_names(names_file)
    else:
        # Nobody says what the numbers mean; as names they can be learnt all the same.
        names = {number: str(number) for number in range(1000)}
    if split_folders:
        splits = {name: [name] for name in split_folders}
    elif example.relative_to(root).parts[0] in ("images", "labels"):
        inner = [name for name in SPLITS if (root / "images" / name).is_dir()]
        splits = {name: [f"images/{name}"] for name in inner} or {"all": ["images"]}
    else:
        splits = {"all": ["."]}
    return names_file or root, YoloConfig(names, splits, None)


def _labelled(root: Path) -> Path | None:
    """A label file below the folder that goes with an image; None if there is none among the first.

    None, too, where a folder below is a data set of its own: several are not one.
    """
    for folder in islice(folders_below(root), LOOKED_AT):
        if folder != root and any((folder / name).is_file() for name in ("data.yaml", "obj.data")):
            return None
        with os.scandir(folder) as entries:
            images = [e.name for e in islice(entries, 10 * LOOKED_AT) if is_image(e.name)]
        labels = [folder]
        if folder.name == "images":
            labels.append(folder.with_name("labels"))
        elif folder.parent.name == "images":
            labels.append(folder.parent.with_name("labels") / folder.name)
        for name in images[:LOOKED_AT]:
            for place in labels:
                file = place / f"{Path(name).stem}.txt"
                if file.is_file() and _is_label_file(file):
                    return file
    return None


def _is_label_file(path: Path) -> bool:
    try:
        return bool(read_labels(path, dict.fromkeys(range(10000), "")))
    except InputError:
        return False


def is_list_of_names(path: Path) -> bool:
    """Whether a .txt among label files is the classes' list, or a tool's note, and no image's labels."""
    return path.name in (*NAME_FILES, "README.txt", "README.dataset.txt", "README.roboflow.txt")


def read_names(path: Path) -> dict[int, str]:
    """The classes' names, a line each, by number from 0.

    Raises:
        InputError: it is unreadable, names none, or names two alike.
    """
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {one_line(error)}") from None
    while lines and not lines[-1].strip():
        lines.pop()
    names = {number: line.strip() for number, line in enumerate(lines)}
    if not names or not all(names.values()):
        raise InputError(f"{path}: a line for each class, none empty")
    twice = next((name for name in names.values() if list(names.values()).count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: two classes are {twice!r}")
    return names
