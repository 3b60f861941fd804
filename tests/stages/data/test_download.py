"""Fetching: whole or not at all, gone on with after an interruption, each failure a line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import download
from stages.data.download import Archive, fetch, published
from stages.data.images import masks_of
from stages.data.layouts import open_folder
from stages.errors import InputError


class _Server:
    """Serves a folder on this machine; says what was asked for, and may cut answers short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.cut = 0
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path.rpartition("/")[2])
                content = (folder / server.asked[-1]).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - server.cut])

            def log_message(self, *_: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def archive(self, name: str, content: bytes) -> Archive:
        (self.folder / name).write_bytes(content)
        return Archive(f"{self.url}/{name}", hashlib.md5(content).hexdigest())

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    (tmp_path / "served").mkdir()
    running = _Server(tmp_path / "served")
    yield running
    running.close()


def tarred(folder: Path, name: str, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        tar.add(folder, name)
    return out.getvalue()


def zipped(folder: Path, *parts: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for part in parts:
            for path in sorted((folder / part).rglob("*")):
                opened.write(path, path.relative_to(folder))
    return out.getvalue()


@pytest.fixture
def voc(make_voc: Callable[..., Path], server: _Server) -> list[Archive]:
    """VOC 2007 as it is published: two archives of one folder."""
    cat = ("cat", 3, 4, 20, 30)
    first = make_voc({"a": [cat], "b": [cat]}, {"trainval": "ab"}, folder="first")
    second = make_voc({"c": [cat]}, {"test": "c"}, folder="second")
    return [
        server.archive("VOCtrainval_06-Nov-2007.tar", tarred(first, "VOCdevkit/VOC2007")),
        server.archive("VOCtest_06-Nov-2007.tar", tarred(second, "VOCdevkit/VOC2007")),
    ]


# ------------------------------------------------------------------ what is fetched


def test_voc(tmp_path: Path, voc: list[Archive], server: _Server) -> None:
    root = fetch("voc2007", tmp_path / "data", archives=voc)
    assert root == tmp_path / "data" / "voc2007"
    data = open_folder(root, "voc2007")
    assert [record.image_id for record in data.train] == ["a", "b"]
    assert [record.image_id for record in data.test] == ["c"]
    assert sorted(os.listdir(tmp_path / "data")) == ["voc2007", "voc2007.lock"]
    server.asked.clear()
    fingerprint = data.fingerprint
    assert fetch("voc2007", tmp_path / "data", archives=voc) == root
    assert server.asked == []
    assert open_folder(root, "voc2007").fingerprint == fingerprint


def test_coco(tmp_path: Path, make_coco: Callable[..., Path], server: _Server) -> None:
    cat = ("cat", 3, 4, 20, 30)
    made = make_coco({"a": [cat], "b": [cat]}, {"train2017": "a", "val2017": "b"})
    archives = [
        server.archive("annotations_trainval2017.zip", zipped(made, "annotations")),
        server.archive("val2017.zip", zipped(made, "val2017")),
        server.archive("train2017.zip", zipped(made, "train2017")),
    ]
    data = open_folder(fetch("coco", tmp_path / "data", archives=archives), "coco")
    assert [record.path.name for record in [*data.train, *data.test]] == ["a.jpg", "b.jpg"]


def test_pets(tmp_path: Path, server: _Server, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    for part in ("images", "annotations/trimaps"):
        (made / part).mkdir(parents=True)
    trimap = np.full((40, 48), 2, np.uint8)
    trimap[9:31, 4:41] = 3  # the border, which is the animal's
    trimap[10:30, 5:40] = 1
    for stem in ("Abyssinian_1", "beagle_2", "no_3", "pug_4"):
        Image.new("RGB", (48, 40)).save(made / "images" / f"{stem}.jpg")
        Image.fromarray(trimap).save(made / "annotations" / "trimaps" / f"{stem}.png")
    Image.new("RGB", (40, 48)).save(made / "images" / "pug_4.jpg")  # another size than its trimap
    (made / "annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\npug_4 2 2 2\n")
    (made / "annotations/test.txt").write_text("beagle_2 3 2 5\n")
    archives = [
        server.archive("images.tar.gz", tarred(made / "images", "images", "w:gz")),
        server.archive("annotations.tar.gz", tarred(made / "annotations", "annotations", "w:gz")),
    ]
    root = fetch("pets", tmp_path / "data", archives=archives)
    assert "trainval: left out 1 images" in capsys.readouterr().err
    data = open_folder(root, "pets")
    assert data.classes == ("cat",)
    (cat,) = data.train
    assert cat.image_id == "Abyssinian_1"
    assert cat.boxes.tolist() == [[4, 9, 41, 31]]
    assert (masks_of(cat).numpy() == (trimap != 2)[None]).all()
    assert open_folder(root, "pets", "test", "trainval").classes == ("dog",)


def test_pets_without_species(tmp_path: Path, server: _Server) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 3 1\n")
    archive = server.archive(
        "annotations.tar.gz", tarred(tmp_path / "annotations", "annotations", "w:gz")
    )
    with pytest.raises(InputError, match=r"trainval\.txt: 'Abyssinian_1 1 3 1' is no line of"):
        fetch("pets", tmp_path / "data", archives=[archive])


def test_published_addresses() -> None:
    for name in download.NAMES:
        archives = published(name)
        assert all(archive.url.startswith("http") for archive in archives)
        assert all(len(archive.md5) == 32 for archive in archives)
    assert [a.url for a in published("coco", "http://mirror/x/")] == [
        "http://mirror/x/annotations_trainval2017.zip",
        "http://mirror/x/val2017.zip",
        "http://mirror/x/train2017.zip",
    ]


# ------------------------------------------------------------------ failures


def failure(tmp_path: Path, archives: list[Archive]) -> str:
    with pytest.raises(InputError) as raised:
        fetch("voc2007", tmp_path / "data", archives=archives)
    assert not (tmp_path / "data" / "voc2007").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_another_file_than_published(tmp_path: Path, voc: list[Archive], server: _Server) -> None:
    other = [voc[0], Archive(voc[1].url, "0" * 32)]
    message = failure(tmp_path, other)
    assert message.startswith(f"{voc[1].url}: what came has MD5 {voc[1].md5}, not {'0' * 32}")
    server.asked.clear()
    fetch("voc2007", tmp_path / "data", archives=voc)
    assert voc[0].name not in server.asked  # it was right, and is there
    assert voc[1].name in server.asked


def test_cut_short(tmp_path: Path, voc: list[Archive], server: _Server) -> None:
    server.cut = 1000
    message = failure(tmp_path, voc)
    assert message.startswith(f"{voc[0].url}: ")
    server.cut = 0
    assert fetch("voc2007", tmp_path / "data", archives=voc).is_dir()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.tar", "http://no-such-host.invalid/a.tar", "a.tar", "x://y/a.tar"]
)
def test_no_such_address(tmp_path: Path, server: _Server, url: str) -> None:
    message = failure(tmp_path, [Archive(url, "0" * 32)])
    assert message.startswith(f"{url}: could not be fetched: ")


def test_no_such_file(tmp_path: Path, server: _Server) -> None:
    url = f"{server.url}/missing.tar"
    assert failure(tmp_path, [Archive(url, "0" * 32)]).startswith(f"{url}: could not be fetched")


def test_an_archive_of_something_else(tmp_path: Path, server: _Server) -> None:
    (tmp_path / "photos").mkdir()
    archive = server.archive("a.tar", tarred(tmp_path / "photos", "photos"))
    assert "a.tar: holds no VOCdevkit/VOC2007" in failure(tmp_path, [archive])
    archive = server.archive("b.tar", b"text")
    assert "b.tar: damaged" in failure(tmp_path, [archive])


# ------------------------------------------------------------------ interruptions


def test_an_archive_put_there_by_hand_counts(
    tmp_path: Path, voc: list[Archive], server: _Server
) -> None:
    (tmp_path / "data" / "voc2007.unfinished").mkdir(parents=True)
    for archive in voc:
        content = (server.folder / archive.name).read_bytes()
        (tmp_path / "data" / "voc2007.unfinished" / archive.name).write_bytes(content)
    nowhere = [Archive(f"http://127.0.0.1:9/{a.name}", a.md5) for a in voc]
    assert fetch("voc2007", tmp_path / "data", archives=nowhere).is_dir()


def test_another_archive_put_there_by_hand_is_left_alone(
    tmp_path: Path, voc: list[Archive], server: _Server
) -> None:
    aside = tmp_path / "data" / "voc2007.unfinished"
    aside.mkdir(parents=True)
    (aside / voc[0].name).write_bytes(b"of another year")
    message = failure(tmp_path, voc)
    assert message.startswith(f"{aside / voc[0].name}: has MD5 ")
    assert (aside / voc[0].name).exists()
    assert server.asked == []


def test_what_a_kill_left_is_cleared_away(tmp_path: Path, voc: list[Archive]) -> None:
    aside = tmp_path / "data" / "voc2007.unfinished"
    (aside / "unpacked" / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(parents=True)
    (aside / "unpacked/VOCdevkit/VOC2007/JPEGImages/stale.jpg").write_text("half a picture")
    (aside / f"{voc[0].name}.part").write_bytes(b"half an archive")
    root = fetch("voc2007", tmp_path / "data", archives=voc)
    assert sorted(os.listdir(root / "JPEGImages")) == ["a.jpg", "b.jpg", "c.jpg"]


def _fetch(downloads: Path, archives: list[Archive]) -> None:
    fetch("voc2007", downloads, archives=archives)


def test_two_runs_at_once_fetch_once(tmp_path: Path, voc: list[Archive], server: _Server) -> None:
    _fetch(tmp_path / "alone", voc)
    alone = sorted(server.asked)
    server.asked.clear()
    runs = [
        multiprocessing.get_context("fork").Process(target=_fetch, args=(tmp_path / "data", voc))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    assert sorted(server.asked) == alone
    assert (tmp_path / "data" / "voc2007" / "JPEGImages" / "c.jpg").is_file()
