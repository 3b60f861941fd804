"""Fetching from servers that answer, and from those that fall silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.backbones import weights
from stages.data import download
from stages.errors import InputError
from stages.fetching import fetch_file


class _Silent:
    """Takes calls, says `begin`, and then nothing any more."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin
        self._calls: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/a-01234567.tar"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                call, _ = self._socket.accept()
            except OSError:
                return
            self._calls.append(call)
            call.sendall(self._begin)

    def close(self) -> None:
        self._socket.close()
        for call in self._calls:
            call.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture(params=[b"", b"HTTP/1.1 200", HEAD, HEAD + b"x" * 500_000])
def silent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Silent]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = _Silent(request.param)
    yield server
    server.close()


def test_a_silent_server_is_given_up(silent: _Silent, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"nothing came for 0\.2 s"):
        fetch_file(silent.url, tmp_path / "a", timeout=0.2)
    assert time.monotonic() - began < 30


def test_it_is_said_in_a_line_and_nothing_is_left(
    silent: _Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def soon(url: str, path: Path) -> None:
        fetch_file(url, path, timeout=0.2)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download, "fetch_file", soon)
    monkeypatch.setattr(weights, "fetch_file", soon)
    archives = [download.Archive(silent.url, "0" * 32)]
    with pytest.raises(InputError) as raised:
        download.fetch("voc2007", tmp_path / "data", archives=archives)
    assert raised.value.line.startswith(f"{silent.url}: could not be fetched: nothing came for")
    with pytest.raises(InputError) as raised:
        weights.download(silent.url)
    assert raised.value.line.startswith(f"{silent.url}: download failed (nothing came for")
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["voc2007.lock"]


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    fetch_file((tmp_path / "a").as_uri(), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x" * 1_000_000
