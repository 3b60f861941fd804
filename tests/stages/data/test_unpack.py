"""Archives of strangers: what they hold is written below the folder, or not at all."""

from __future__ import annotations

import errno
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.data.unpack import unpack
from stages.errors import InputError


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def zip_of(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, of_name in content.items():
            opened.writestr(name, of_name)
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member, b""


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_tar(tmp_path: Path, suffix: str, mode: str) -> None:
    members = [(tarfile.TarInfo("a/b.txt"), b"hello"), (tarfile.TarInfo("./c.txt"), b"you")]
    unpack(tar_of(tmp_path / f"x{suffix}", members, mode), tmp_path / "out")
    assert everything(tmp_path / "out") == {"a", "a/b.txt", "c.txt"}
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"hello"


def test_zip(tmp_path: Path) -> None:
    unpack(zip_of(tmp_path / "x.zip", {"a/b.txt": b"hello", "c.txt": b"you"}), tmp_path / "out")
    assert everything(tmp_path / "out") == {"a", "a/b.txt", "c.txt"}
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil-of-a-test", "a/../../../evil"]
)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    archive = tmp_path / f"x{suffix}"
    if suffix == ".zip":
        zip_of(archive, {name: b"evil"})
    else:
        tar_of(archive, [(tarfile.TarInfo(name), b"evil")])
    with pytest.raises(InputError) as raised:
        unpack(archive, tmp_path / "in" / "out")
    assert str(raised.value).startswith(f"{archive}: {name!r} would be written outside")
    assert everything(tmp_path) - {"in", "in/out"} == {archive.name}
    assert not Path("/tmp/evil-of-a-test").exists()


@pytest.mark.parametrize(
    "members",
    [
        [link("a", "/etc"), (tarfile.TarInfo("a/passwd"), b"evil")],
        [link("a", "../.."), (tarfile.TarInfo("a/evil"), b"evil")],
        [link("a", "../outside", tarfile.LNKTYPE)],
        [link("a/", "..")],  # Python 3.11.7's filter lets it through
        [link("a", "b"), (tarfile.TarInfo("b"), b"fine")],
        [link("a", "", tarfile.CHRTYPE)],
        [link("a", "", tarfile.FIFOTYPE)],
    ],
)
def test_links_and_devices_are_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    (tmp_path / "outside").write_text("mine")
    tar_of(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=r"x\.tar: "):
        unpack(tmp_path / "x.tar", tmp_path / "in" / "out")
    assert everything(tmp_path) - {"in", "in/out"} == {"outside", "x.tar"}
    assert everything(tmp_path / "in" / "out") == set()


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_is_deflated_or_not_packed(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as opened:
        opened.writestr("a", b"hello" * 100)
    with pytest.raises(InputError, match=r"x\.zip: 'a' is not deflated"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w:xz", "w:bz2", "w:gz"])
def test_a_tar_is_what_its_name_says(tmp_path: Path, mode: str) -> None:
    """xz would ask for gigabytes if it says so."""
    path = tar_of(tmp_path / "x.tar", [(tarfile.TarInfo("a"), b"hello")], mode)
    with pytest.raises(InputError, match=r"x\.tar: damaged"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("names", [["a" * 300], ["a", "a/b"], ["a/b", "a"]])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_that_cannot_be_written_are_said(
    tmp_path: Path, names: list[str], suffix: str
) -> None:
    archive = tmp_path / f"x{suffix}"
    if suffix == ".zip":
        zip_of(archive, dict.fromkeys(names, b"x"))
    else:
        tar_of(archive, [(tarfile.TarInfo(name), b"x") for name in names])
    with pytest.raises(InputError) as raised:
        unpack(archive, tmp_path / "out")
    assert str(raised.value).startswith(f"{archive}: ")
    assert "\n" not in str(raised.value)


def test_a_full_disk_is_not_the_archives_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match="No space"):
        unpack(zip_of(tmp_path / "x.zip", {"a": b"x"}), tmp_path / "out")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_damage_is_named(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"x{suffix}"
    content = bytes(range(256)) * 400
    if suffix == ".zip":
        zip_of(archive, {"a": content})
    else:
        tar_of(archive, [(tarfile.TarInfo("a"), content)], "w:gz" if suffix == ".tar.gz" else "w")
    whole = archive.read_bytes()
    for damaged in (b"", b"no archive" * 100, whole[: len(whole) // 2]):
        archive.write_bytes(damaged)
        with pytest.raises(InputError) as raised:
            unpack(archive, tmp_path / "out")
        assert str(raised.value).startswith(f"{archive}: damaged: ")
