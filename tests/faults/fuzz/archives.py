"""Archives of data sets: whatever they hold, nothing is written outside the folder."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from stages.data.unpack import unpack
from tests.faults.fuzz.reader import Case, Reader

CONTENT = b"hello " * 20
NAMES = [
    *("a", "a/b", "./a", "a//b", "a/./b", "a/", "c", "link", "link/x", ".", "..", "../evil"),
    *(
        "a/../../evil",
        "a/../b",
        "/evil",
        "//evil",
        "C:\\evil",
        "\\\\host\\evil",
        "..\\evil",
        "a\\b",
    ),
    *("a" * 300, "a/" * 2000 + "b", "é", "a\nb", "a\x1b[31m", "a\x00b", "", " ", "CON", "~", "-rf"),
]
TARGETS = [
    "a",
    ".",
    "..",
    "../..",
    "/",
    "/etc/passwd",
    "a/../..",
    "link",
    "",
    "b/../../../x",
    "../in",
]
KINDS = [
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z", b"g", b"x"),
]


def _tar(members: Sequence[tarfile.TarInfo], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            member.size = len(CONTENT) if plain else member.size
            tar.addfile(member, io.BytesIO(CONTENT) if plain else None)
    return made.getvalue()


def _make(folder: Path) -> Sequence[str]:
    members = [tarfile.TarInfo(name) for name in ("a/b.txt", "c.txt")]
    (folder / "plain.tar").write_bytes(_tar(members))
    (folder / "packed.tar.gz").write_bytes(_tar(members, "w:gz"))
    for name, method in (("packed.zip", zipfile.ZIP_DEFLATED), ("plain.zip", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            archive.writestr("a/b.txt", CONTENT)
            archive.writestr("c.txt", CONTENT)
    (folder / "beside").write_text("mine")
    return ["plain.tar", "packed.tar.gz", "packed.zip", "plain.zip"]


def _read(folder: Path, name: str) -> None:
    outside = sorted(path.name for path in folder.iterdir())
    inside = folder / "in" / "out"
    try:
        unpack(folder / name, inside)
        for path in inside.rglob("*"):
            assert not path.is_symlink(), path
            assert path.is_file() or path.is_dir(), path
    finally:
        left = sorted(path.name for path in folder.iterdir())
        between = [path.name for path in (folder / "in").iterdir()] if "in" in left else []
        for path in (folder / "in").rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder / "in", ignore_errors=True)
        assert sorted({*left} - {"in"}) == outside, "written outside"
        assert between in ([], ["out"]), "written outside"
        assert (folder / "beside").read_text() == "mine"
        assert not Path("/evil").exists()


@st.composite
def _tars(draw: st.DrawFn) -> Case:
    members = []
    for _ in range(draw(st.integers(1, 4))):
        member = tarfile.TarInfo(draw(st.sampled_from(NAMES)))
        member.type = draw(st.sampled_from(KINDS))
        member.linkname = draw(st.sampled_from(TARGETS))
        member.mode = draw(st.sampled_from((0o644, 0o4777, 0o000, 0o7777)))
        member.devmajor, member.devminor = 1, 3
        members.append(member)
    mode = draw(st.sampled_from(("w", "w:gz")))
    return Case("plain.tar" if mode == "w" else "packed.tar.gz", _tar(members, mode))


@st.composite
def _zips(draw: st.DrawFn) -> Case:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for _ in range(draw(st.integers(1, 4))):
            info = zipfile.ZipInfo(draw(st.sampled_from(NAMES)) or "a")
            info.create_system = draw(st.sampled_from((0, 3)))
            # A link, a device, a folder by their modes.
            mode = draw(st.sampled_from((0o100644, 0o120777, 0o020666, 0o010666, 0o040755)))
            info.external_attr = mode << 16
            content = draw(st.sampled_from(TARGETS)).encode() if mode == 0o120777 else CONTENT
            archive.writestr(info, content)
    return Case("packed.zip", made.getvalue())


def _wrong(_: Path) -> st.SearchStrategy[Case]:
    return _tars() | _zips()


ARCHIVES = Reader("Archives", _make, _read, _wrong)
