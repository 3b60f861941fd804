"""Files of weights: those that fit are put in, all others are refused in one line."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.backbones.config import BackboneConfig, Name, PretrainConfig
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.networks import classifier, cut, tiny
from stages.backbones.weights import (
    Weights,
    _renamed,
    build_backbone,
    fill,
    find_weights,
    load_built,
    load_state,
)
from stages.errors import InputError
from stages.store import Store
from stages.training.sgd import SGDConfig
from tests.faults.fuzz.memory import limited

SHARED = Path(__file__).parents[3] / "../shared/weights"


def refused(file: Path, name: Name = "tiny") -> str:
    """What is said of the file."""
    with pytest.raises(InputError) as caught:
        build_backbone(name, Weights(file, ""))
    said = str(caught.value)
    assert "\n" not in said
    assert str(file) in said
    return said


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(5)
    net = tiny()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.state_dict()


@pytest.fixture
def file(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


# What fits -----------------------------------------------------------------------------------


def test_a_backbones_own_file(file: Path, state: dict[str, Tensor]) -> None:
    built = build_backbone("tiny", Weights(file, "")).state_dict()
    assert built.keys() == state.keys()
    assert all(torch.equal(built[key], value) for key, value in state.items())


def test_a_frozen_backbones_file(tmp_path: Path, file: Path) -> None:
    crops = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = build_backbone("tiny", Weights(file, "")).eval()(crops)
        frozen = build_backbone("tiny", Weights(file, ""))
        freeze_batch_norm(frozen)
        torch.save(frozen.state_dict(), tmp_path / "frozen.pt")
        again = build_backbone("tiny", Weights(tmp_path / "frozen.pt", "")).eval()
        assert torch.equal(again(crops), before)
        freeze_batch_norm(again)
        torch.testing.assert_close(again(crops), before)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_torchvisions_file_and_ours(tmp_path: Path, name: Name) -> None:
    torch.manual_seed(3)
    network = classifier(name).eval()
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    backbone = build_backbone(name, Weights(tmp_path / "theirs.pth", "")).eval()
    crops = torch.randn(1, 3, 96, 96)
    expected = cut(name, network).trunk(crops)
    assert torch.equal(backbone.trunk(crops), expected)
    # Fine-tuning writes the backbone's, with the layers that torchvision does not know.
    with torch.no_grad():
        for p in backbone.head.parameters():
            p.mul_(1.5)
    torch.save(backbone.state_dict(), tmp_path / "ours.pt")
    again = build_backbone(name, Weights(tmp_path / "ours.pt", "")).eval()
    with torch.inference_mode():
        assert torch.equal(again(crops), backbone(crops))


def test_the_first_conversion_of_caffes_vgg16_counts_a_layer_more() -> None:
    with torch.device("meta"):
        network = classifier("vgg16")
    own = network.state_dict()
    moved = {"classifier.0.": "classifier.1.", "classifier.3.": "classifier.4."}
    theirs = {moved.get(key[:13], key[:13]) + key[13:]: value for key, value in own.items()}
    assert theirs.keys() != own.keys()
    renamed = _renamed("vgg16", theirs)
    assert list(renamed) == list(own)
    assert all(renamed[key] is value for key, value in own.items())
    assert _renamed("vgg16", own) is own
    assert _renamed("alexnet", theirs) is theirs  # whose layers are numbered so


def test_old_files_without_counts_of_batches(tmp_path: Path, state: dict[str, Tensor]) -> None:
    old = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pt")
    built = build_backbone("tiny", Weights(tmp_path / "old.pt", "")).state_dict()
    assert all(torch.equal(built[key], value) for key, value in old.items())


def test_random_weights_are_the_same_in_every_run() -> None:
    torch.manual_seed(1)
    first = build_backbone("squeezenet1_1", Weights(None, "random")).state_dict()
    torch.manual_seed(2)
    second = build_backbone("squeezenet1_1", Weights(None, "random")).state_dict()
    assert all(torch.equal(first[key], value) for key, value in second.items())


def test_building_draws_nothing_from_the_callers_generator() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_backbone("tiny", Weights(None, "random"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("squeezenet1_1", "squeezenet1_1-imagenet.pth"),
        ("mobilenet_v2", "mobilenet_v2-imagenet.pth"),
    ],
)
def test_real_weights_are_torchvisions_up_to_the_map(name: Name, filename: str) -> None:
    path = SHARED / filename
    if not path.exists():
        pytest.skip(f"{filename} is not here")
    backbone = build_backbone(name, Weights(path, "")).eval()
    network: Any = classifier(name)
    network.load_state_dict(load_state(path))
    network.eval()
    crops = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if name == "squeezenet1_1":
            torch.testing.assert_close(32 * backbone.trunk(crops), network.features(crops))
            # New layers can learn from it: neither next to nothing nor hundreds goes into them.
            fc6 = backbone.until("fc6", backbone.pool5(backbone.trunk(crops)))
            assert 0.1 < float(fc6[fc6 > 0].mean()) < 3
        else:
            expected = network.features(crops).mean(dim=(2, 3))
            torch.testing.assert_close(backbone(crops), expected, rtol=1e-4, atol=1e-5)
            # Its batch norms were folded away: only frozen do they stay so.
            freeze_batch_norm(backbone)
            torch.testing.assert_close(backbone.train()(crops), expected, rtol=1e-4, atol=1e-5)


# What does not -------------------------------------------------------------------------------


def test_all_that_does_not_fit_is_named_in_one_line(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    del state["head.fc7.0.bias"]
    state["head.fc8.0.bias"] = torch.zeros(3)
    state["head.fc6.0.bias"] = torch.zeros(9)
    torch.save(state, tmp_path / "other.pt")
    said = refused(tmp_path / "other.pt")
    assert "missing head.fc7.0.bias" in said
    assert "not in the network head.fc8.0.bias" in said
    assert "head.fc6.0.bias [9] for [256]" in said


def test_a_module_is_not_filled_by_half(state: dict[str, Tensor]) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    wrong = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "1.weight": torch.ones(2, 2)}
    with pytest.raises(InputError, match=r"1\.bias"):
        fill(net, wrong, Path("x"))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_another_networks_file_is_named_without_listing_it_all(tmp_path: Path) -> None:
    torch.save(classifier("mobilenet_v2").state_dict(), tmp_path / "mobilenet.pth")
    said = refused(tmp_path / "mobilenet.pth", "squeezenet1_1")
    assert "features.0.bias" in said
    assert "more" in said
    assert len(said) < 1000


def raw(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>404</html>", id="web page"),
        # What a pickle's first byte could be.
        pytest.param(b"hello, world\n", id="text that looks like a pickle's get"),
        pytest.param(b"a line of text\n", id="text that looks like a pickle's append"),
        pytest.param(b"./weights\n", id="text that looks like a pickle's end"),
        pytest.param(b"Git", id="text that looks like a pickle's float"),
        pytest.param(b"\x80", id="pickle cut short"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(20), id="picture"),
        pytest.param(b"PK\x03\x04" + bytes(40), id="zip cut short"),
        pytest.param(raw({"a": torch.zeros(99)})[:300], id="half a file"),
        pytest.param(raw([torch.zeros(2)]), id="list"),
        pytest.param(raw(torch.zeros(2)), id="tensor"),
        pytest.param(raw({"state_dict": {"a": torch.zeros(2)}}), id="dictionary of dictionaries"),
        pytest.param(raw({}), id="no tensors"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    refused(tmp_path / "file.pt")


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_tensors_without_names_are_refused(tmp_path: Path, name: Name) -> None:
    torch.save({0: torch.zeros(2)}, tmp_path / "file.pt")
    refused(tmp_path / "file.pt", name)


def test_an_array_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    refused(tmp_path / "arrays.npz")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pt")


class Hostile:
    """What, unpickled, makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [raw, pickle.dumps])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "file.pt").write_bytes(write({"trunk.0.0.weight": Hostile(ran)}))
    refused(tmp_path / "file.pt")
    assert not ran.exists()


# What a description asks for -----------------------------------------------------------------


def test_a_network_is_built_and_filled(tmp_path: Path) -> None:
    wanted = nn.Linear(3, 2)
    torch.save(wanted.state_dict(), tmp_path / "file.pt")
    built = load_built(lambda: nn.Linear(3, 2), tmp_path / "file.pt", "no network")
    assert built.weight.device.type == "cpu"
    assert torch.equal(built.weight, wanted.weight)


def test_what_the_file_does_not_hold_is_never_allocated(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "file.pt")
    with limited(), pytest.raises(InputError, match=r"file\.pt: does not fit Linear: shape weight"):
        load_built(lambda: nn.Linear(10**7, 10**7), tmp_path / "file.pt", "no network")


def test_what_cannot_be_built_is_said(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "file.pt")
    with pytest.raises(InputError, match="no network: ") as caught:
        load_built(lambda: nn.Linear(10**30, 2), tmp_path / "file.pt", "no network")
    assert "\n" not in str(caught.value)


# Where they come from ------------------------------------------------------------------------


def test_a_file_is_known_by_its_content(tmp_path: Path, state: dict[str, Tensor]) -> None:
    store = Store(tmp_path / "store")
    content = raw(state)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    (tmp_path / "c").write_bytes(raw({key: value + 1 for key, value in state.items()}))
    a, b, c = (find_weights(BackboneConfig("tiny", str(tmp_path / name)), store) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.path == tmp_path / "a"


@pytest.mark.parametrize("name", ["missing.pt", "."])
def test_no_such_file_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(InputError) as caught:
        find_weights(BackboneConfig("alexnet", str(path)), Store(tmp_path / "store"))
    assert str(path) in str(caught.value)


def test_none_are_random(tmp_path: Path) -> None:
    found = find_weights(BackboneConfig("alexnet", "none"), Store(tmp_path))
    assert found.path is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weights", ["default", "drawn"])
def test_tiny_is_trained_on_what_is_drawn(tmp_path: Path, weights: str) -> None:
    pretrain = PretrainConfig(
        objects=8, held_out=4, batch=4, sgd=SGDConfig(lr=0.01, iterations=1, dtype="float32")
    )
    store = Store(tmp_path)
    found = find_weights(BackboneConfig("tiny", weights, pretrain), store)
    assert [artifact.manifest["stage"] for artifact in store.used] == [
        "stages.backbones.pretrain.pretrain"
    ]
    assert found.fingerprint == store.used[0].fingerprint
    assert build_backbone("tiny", found).name == "tiny"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine gives out; `offer` makes one of its files the default."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        (folder / "address").write_text(f"http://127.0.0.1:{server.server_address[1]}")
        yield folder
        server.shutdown()
        thread.join()


def offer(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(
        "stages.backbones.weights.zoo.get_model_weights",
        lambda name: {"IMAGENET1K_V1": SimpleNamespace(url=url)},
    )


def test_a_download_is_kept(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = raw(classifier("squeezenet1_1").state_dict())
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (served / name).write_bytes(content)
    offer(monkeypatch, f"{(served / 'address').read_text()}/{name}")
    config, store = BackboneConfig("squeezenet1_1"), Store(tmp_path / "store")
    found = find_weights(config, store)
    assert found.path is not None
    assert found.path.read_bytes() == content
    assert build_backbone("squeezenet1_1", found).channels == 512
    # Once is enough.
    (served / name).unlink()
    assert find_weights(config, store) == found


def test_what_is_in_the_cache_is_held_against_its_name(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = raw(classifier("squeezenet1_1").state_dict())
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    offer(monkeypatch, f"http://127.0.0.1:9/{name}")
    cached = tmp_path / "torch" / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    config, store = BackboneConfig("squeezenet1_1"), Store(tmp_path / "store")
    assert find_weights(config, store).path == cached
    cached.write_bytes(content[:-1])  # as `kill -9` leaves it
    with pytest.raises(InputError, match=r"its SHA-256 begins with .* remove it") as caught:
        find_weights(config, store)
    assert caught.value.line.startswith(f"{cached}: ")
    assert cached.exists()


@pytest.mark.parametrize("fault", ["another content", "no such file", "nobody answers"])
def test_a_download_that_fails_is_said(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    name = "squeezenet1_1-01234567.pth"
    if fault == "another content":
        (served / name).write_bytes(raw({"a": torch.zeros(3)}))
    address = (served / "address").read_text()
    url = f"{'http://127.0.0.1:9' if fault == 'nobody answers' else address}/{name}"
    offer(monkeypatch, url)
    with pytest.raises(InputError) as caught:
        find_weights(BackboneConfig("squeezenet1_1"), Store(tmp_path / "store"))
    said = str(caught.value)
    assert url in said
    assert "put the file there" in said
    assert "\n" not in said
    # Nothing is left that the next run would take for the file.
    assert [path for path in (tmp_path / "torch").rglob("*") if path.is_file()] == []
