"""Files of tensors that are none, or cost more than they look."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.errors import InputError
from stages.tensor_files import is_plain, load_safetensors, load_tensors, refuse_compressed

ROOT = Path(__file__).parents[2]
STATE = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_saved_is_loaded(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    loaded = load_tensors(tmp_path / "a.pt")
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("notes", [None, {"normalisation": "caffe", "format": "pt"}])
def test_safetensors_and_what_they_say(tmp_path: Path, notes: dict[str, str] | None) -> None:
    save_file(STATE, tmp_path / "a.safetensors", notes)
    loaded, said = load_safetensors(tmp_path / "a.safetensors")
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[key], value) for key, value in STATE.items())
    assert said == (notes or {})


@pytest.mark.parametrize("part", [slice(0), slice(7), slice(60), slice(-1), slice(1, None)])
def test_safetensors_cut_short_are_said_in_a_line(tmp_path: Path, part: slice) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[part])
    with pytest.raises(ValueError, match="header") as caught:
        load_safetensors(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_a_pickle_of_that_name_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weight": Hostile()}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="header"):
        load_safetensors(tmp_path / "a.safetensors")


def test_safetensors_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_safetensors(tmp_path / "a.safetensors")
    with pytest.raises(IsADirectoryError):
        load_safetensors(tmp_path)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(InputError, match="pipe"):
        load_safetensors(tmp_path / "pipe.safetensors")


def test_a_bit_flipped_in_a_tensor_of_ours_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    assert torch.equal(load_tensors(path, ours=True)["weight"], STATE["weight"])
    content = bytearray(path.read_bytes())
    content[content.index(STATE["weight"].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data/0 is not what was written"):
        load_tensors(path, ours=True)


def rewritten(path: Path, method: int, record: bytes | None = None) -> None:
    """The archive once more, by that method, its first tensor's bytes replaced."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, of_name in content.items():
            replaced = record is not None and name.endswith("data/0")
            archive.writestr(name, record if replaced and record else of_name)


def test_what_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    rewritten(path, zipfile.ZIP_STORED)
    assert torch.equal(load_tensors(path)["weight"], STATE["weight"])
    rewritten(path, zipfile.ZIP_DEFLATED, bytes(2**24))
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match="compressed"):
        load_tensors(path)


def test_records_that_lie_over_one_another_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(1000), two=np.arange(1000))
    content = path.read_bytes()
    # Both entries of the list at the end point to the first record.
    first, second = content.rindex(b"one.npy"), content.rindex(b"two.npy")
    offset = slice(first - 4, first), slice(second - 4, second)
    assert content[offset[0]] != content[offset[1]]
    half = content[: content.index(b"two.npy") - 30] + content[content.index(b"PK\x01\x02") :]
    refuse_compressed(path)
    path.write_bytes(half)
    with pytest.raises(ValueError, match="larger than the file"):
        refuse_compressed(path)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_not_run_and_nobody_is_told_how_to_run_it(tmp_path: Path, save: Any) -> None:
    save({"weight": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="more than tensors") as caught:
        load_tensors(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (torch.zeros(2), True),
        (torch.zeros(2, dtype=torch.int8), True),
        (torch.nn.Parameter(torch.zeros(2)), True),
        (torch.zeros(2).to_sparse(), False),
        (torch.zeros(2, dtype=torch.complex64), False),
        (torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), False),
        (torch.zeros(2, device="meta"), False),
        (np.zeros(2), False),
        (None, False),
    ],
)
def test_plain_tensors(value: object, plain: bool) -> None:
    assert is_plain(value) == plain


PACKAGES = ("stages", "rcnn_v1", "spp_net", "fast_rcnn", "faster_rcnn", "mask_rcnn", "benchmarks")
# What runs code that is in a file, or may; `load_tensors` is the one place that loads a pickle.
UNSAFE = re.compile(
    r"pickle\.loads?\(|torch\.load\(|allow_pickle=True|weights_only=False|yaml\.(unsafe_|full_)?load\("
    r"|joblib\.load|shelve\.|marshal\.loads?|xml\.etree\.ElementTree import parse|fromstring\("
)


def test_nothing_else_loads_what_could_be_code() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), match[0])
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for match in UNSAFE.finditer(path.read_text())
    }
    assert found == {
        ("stages/data/voc_xml.py", "fromstring("),  # defusedxml's
        ("stages/tensor_files.py", "torch.load("),
        ("stages/data/yolo_files.py", "yaml.load("),  # by a SafeLoader
    }
