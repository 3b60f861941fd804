"""A data set's files: which there are, and what tells whether they changed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

# Of files that are taken for images where only their names are known, in lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image (`._a.jpg` is what macOS leaves beside one)."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def stamp(name: str, stat: os.stat_result) -> bytes:
    """A line that changes when the file does."""
    return f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape")


def stamps(folder: Path, prefix: str, suffixes: tuple[str, ...] = ("",)) -> Iterator[bytes]:
    """A stamp for each entry of the folder (not of its folders) with such a suffix, by name.

    Each is asked for its size and time once, which is what takes time in a folder of 100,000.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.lower().endswith(suffixes):
                try:
                    stat = entry.stat()
                except FileNotFoundError:  # a link to a file that was not fetched
                    stat = entry.stat(follow_symlinks=False)
                yield stamp(f"{prefix}{entry.name}", stat)


def folders_below(root: Path) -> Iterator[Path]:
    """The folder and those in it, by name; hidden ones and those that hold runs are left out."""
    seen = set()
    for folder, inner, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links may lead in circles
            inner.clear()
            continue
        seen.add(real)
        # Pictures that runs leave are not data: counted, they would change it with every run.
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith(".") and not os.path.isdir(Path(folder, name, "store", "locks"))
        )
        yield Path(folder)


def folders_in(folder: Path) -> list[Path]:
    """The folders in it, by name, links to folders among them; no hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (OSError, ValueError):  # no folder, or not ours to look into
        return []
    return [folder / name for name in names]


def leaves_its_folder(name: str) -> bool:
    """Whether a file name from someone's annotations is absolute or climbs with `..`."""
    windows = PureWindowsPath(name)  # knows both kinds of slashes
    return bool(
        windows.drive or windows.root or ".." in windows.parts or PurePosixPath(name).is_absolute()
    )


LONGEST = 4095  # bytes of a name, as of a path


def is_writable(name: str) -> bool:
    """Whether the files of a run can hold a name: HDF5's take no NUL, and no file what is not UTF-8."""
    try:
        return "\0" not in name and len(name.encode()) <= LONGEST
    except UnicodeEncodeError:  # half a character, or a byte of a file's name that was no text
        return False


def image_stem(name: str) -> str | None:
    """An image file's name without its ending; None where `is_image` says no."""
    if not is_image(name):
        return None
    return name[: -len(_suffix(name))]


def _suffix(name: str) -> str:
    """An image file's ending as it is written."""
    return next(name[-len(suffix) :] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix))


class Names:
    """Which files there are, each folder listed once instead of asking the disk for every file."""

    def __init__(self) -> None:
        # Of each folder: a name -> whether it is a file (a link to anything else has no entry).
        self._names: dict[str, dict[str, bool]] = {}
        self._images: dict[str, dict[str, list[str]]] = {}

    def has(self, path: Path) -> bool:
        """Whether there is such an entry (a link to nowhere is none)."""
        folder, name = os.path.split(path)
        return name in self._listed(folder)

    def of(self, folder: Path) -> Collection[str]:
        """The names in a folder; none where there is no such folder."""
        return self._listed(str(folder)).keys()

    def image_of(self, folder: Path, stem: str) -> Path | None:
        """The image file of that name, whatever its ending and the ending's case: `a` -> `a.Jpg`.

        Of several the one whose ending comes first in `IMAGE_SUFFIXES` (`.jpg` before all), the
        ending in lower case before others; `images_of` gives them all.

        Args:
            stem: the name without the ending, its own letters as they are; with folders below
                `folder`, perhaps: `a/b`.
        """
        found = self.images_of(folder, stem)
        return found[0] if found else None

    def images_of(self, folder: Path, stem: str) -> list[Path]:
        """Every image file of that name, in the order in which `image_of` prefers them."""
        if leaves_its_folder(stem):
            return []
        inner, name = os.path.split(os.path.join(folder, stem))
        return [Path(inner, entry) for entry in self._stems(inner).get(name, [])]

    def images_in(self, folder: Path) -> dict[str, list[Path]]:
        """The folder's image files by their names without the ending, each as `images_of` gives them."""
        return {
            stem: [folder / entry for entry in entries]
            for stem, entries in self._stems(str(folder)).items()
        }

    def file_of(self, folder: Path, stem: str, suffix: str) -> Path | None:
        """The file of that name and ending, the ending in any of the usual cases: `a` -> `a.XML`.

        Args:
            stem: as in `image_of`.
            suffix: in lower case, with its dot.
        """
        if leaves_its_folder(stem):
            return None
        inner, name = os.path.split(os.path.join(folder, stem))
        for entry in (f"{name}{suffix}", f"{name}{suffix.upper()}", f"{name}.{suffix[1:].title()}"):
            if self._listed(inner).get(entry):
                return Path(inner, entry)
        return None

    def files_in(self, folder: Path, suffix: str) -> dict[str, Path]:
        """The folder's files of that ending, in any case, by their names without it; no hidden ones.

        Args:
            suffix: in lower case, with its dot.
        """
        return {
            entry[: -len(suffix)]: folder / entry
            for entry, is_file in sorted(self._listed(str(folder)).items())
            if is_file and entry.lower().endswith(suffix) and not entry.startswith(".")
        }

    def _stems(self, folder: str) -> dict[str, list[str]]:
        """The images' file names by their stems."""
        if folder not in self._images:
            by_stem: dict[str, list[str]] = {}
            for entry, is_file in self._listed(folder).items():
                own = image_stem(entry) if is_file else None
                if own is not None:
                    by_stem.setdefault(own, []).append(entry)
            for several in by_stem.values():
                several.sort(key=_preferred)
            self._images[folder] = by_stem
        return self._images[folder]

    def _listed(self, folder: str) -> dict[str, bool]:
        if folder not in self._names:
            try:
                with os.scandir(folder or os.curdir) as entries:
                    self._names[folder] = {
                        entry.name: entry.is_file()
                        for entry in entries
                        if not entry.is_symlink() or entry.is_file()
                    }
            except (OSError, ValueError):  # a name that is none
                self._names[folder] = {}
        return self._names[folder]


def _preferred(name: str) -> tuple[int, bool, str]:
    suffix = _suffix(name)
    return IMAGE_SUFFIXES.index(suffix.lower()), suffix != suffix.lower(), name
