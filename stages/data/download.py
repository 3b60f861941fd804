"""`DATA=voc2007|voc2012|coco|pets`: the published data sets, fetched once.

torchvision knows VOC's and the pets' addresses and checksums. It is imported only when
something has to be fetched: that takes seconds.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.data.pets import arrange_pets
from stages.data.unpack import unpack
from stages.errors import InputError, check_regular, one_line
from stages.fetching import fetch_file
from stages.lock import alone

NAMES = ("voc2007", "voc2012", "coco", "pets")

# torchvision reads COCO but does not fetch it. Checksums as PaddleDetection and others use them.
COCO = (
    ("annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),
    ("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),
    ("zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2"),
)
# Where the archives of each data set hold it.
INSIDE = {
    "voc2007": "VOCdevkit/VOC2007",
    "voc2012": "VOCdevkit/VOC2012",
    "coco": ".",
    "pets": ".",
}


@dataclass(frozen=True)
class Archive:
    """A file to fetch, and the MD5 checksum of what was published."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def published(name: str, mirror: str = "") -> list[Archive]:
    """The archives of a data set.

    Args:
        name: one of `NAMES`.
        mirror: an address below which the same files are, instead of where they were published.
    """
    from torchvision.datasets import OxfordIIITPet
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    voc = {
        "voc2007": [DATASET_YEAR_DICT["2007"], DATASET_YEAR_DICT["2007-test"]],
        "voc2012": [DATASET_YEAR_DICT["2012"]],
    }
    if name in voc:
        archives = [Archive(part["url"], part["md5"]) for part in voc[name]]
    elif name == "pets":
        archives = [Archive(url, md5) for url, md5 in OxfordIIITPet._RESOURCES]
    else:
        archives = [Archive(f"http://images.cocodataset.org/{path}", md5) for path, md5 in COCO]
    if mirror:
        archives = [Archive(f"{mirror.rstrip('/')}/{a.name}", a.md5) for a in archives]
    return archives


def fetch(
    name: str, downloads: Path, mirror: str = "", archives: Sequence[Archive] | None = None
) -> Path:
    """The folder of a published data set, in a layout that `load_data` reads; fetched if not there.

    Works in `<downloads>/<name>.unfinished/` and renames it when all is done, so that what is
    called `<downloads>/<name>` is whole. Interrupted, it goes on with the archives that it has;
    one that was put there by hand counts as fetched.

    Args:
        name: one of `NAMES`.
        downloads: the folder for data sets; made if missing.
        mirror: see `published`.
        archives: instead of the published ones.

    Raises:
        InputError: an archive cannot be fetched, is not the one published, or is damaged.
    """
    root = downloads / name
    if root.is_dir():
        return root
    aside = downloads / f"{name}.unfinished"
    aside.mkdir(parents=True, exist_ok=True)
    with alone(downloads / f"{name}.lock", f"{root}: another run is fetching it"):
        if root.is_dir():  # another run fetched it while we waited
            return root
        files = [_archive(a, aside) for a in (archives or published(name, mirror))]
        unpacked = aside / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        for file in files:
            print(f"unpacking {file}", file=sys.stderr, flush=True)
            unpack(file, unpacked)
        content = unpacked / INSIDE[name]
        if not content.is_dir():
            raise InputError(f"{files[0]}: holds no {INSIDE[name]}")
        if name == "pets":
            arranged = aside / "arranged"
            shutil.rmtree(arranged, ignore_errors=True)
            arrange_pets(content, arranged)
            content = arranged
        os.rename(content, root)
        shutil.rmtree(aside)
    return root


def _archive(archive: Archive, folder: Path) -> Path:
    """The archive's file, fetched if it is not there, with the right checksum."""
    from torchvision.datasets.utils import calculate_md5

    path = folder / archive.name
    if path.exists():
        check_regular(path)
        md5 = calculate_md5(path)
        if md5 != archive.md5:
            raise InputError(
                f"{path}: has MD5 {md5}, not {archive.md5} as {archive.url}; "
                "remove it to have it fetched"
            )
        return path
    # Under another name: half a file would be taken for one that somebody put there.
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    print(f"fetching {archive.url}", file=sys.stderr, flush=True)
    try:
        fetch_file(archive.url, part)
    # urllib raises ValueError for what is no address.
    except (OSError, http.client.HTTPException, ValueError) as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{archive.url}: could not be fetched: {one_line(error) or type(error).__name__} "
            f"(or put {archive.name} into {folder} yourself)"
        ) from None
    md5 = calculate_md5(part)
    if md5 != archive.md5:
        part.unlink()
        raise InputError(
            f"{archive.url}: what came has MD5 {md5}, not {archive.md5}: another file, or cut short"
        )
    os.replace(part, path)
    return path
