"""What `torch.save` wrote: files of weights, which come from anywhere, and our own checkpoints."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from stages.backbones.weights import fill, load_state
from stages.errors import InputError
from stages.store import Job
from stages.training.loop import train
from stages.training.sgd import SGDConfig
from tests.faults.fuzz.reader import Case, Reader


def _saved(value: Any, old: bool = False) -> bytes:
    made = io.BytesIO()
    torch.save(value, made, _use_new_zipfile_serialization=not old)
    return made.getvalue()


def _rezipped(content: bytes, change: Callable[[str, bytes], bytes], method: int) -> bytes:
    """The same archive with its records changed."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as before,
        zipfile.ZipFile(made, "w", method) as after,
    ):
        for info in before.infolist():
            after.writestr(info.filename, change(info.filename, before.read(info)))
    return made.getvalue()


def _deflated(content: bytes) -> bytes:
    return _rezipped(content, lambda _, record: record, zipfile.ZIP_DEFLATED)


@cache
def _bomb() -> bytes:
    """400 megabytes of weights, deflated to two."""
    small = _saved({"weight": torch.zeros(4)})
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(small)) as before,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after,
    ):
        for info in before.infolist():
            if info.filename.endswith("data/0"):
                with after.open(info.filename, "w", force_zip64=True) as file:
                    for _ in range(25):
                        file.write(bytes(2**24))
            else:
                after.writestr(info.filename, before.read(info))
    return made.getvalue()


def _without_checksums(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Records changed under checksums that fit: what only the unpickler can refuse."""
    return _rezipped(content, change, zipfile.ZIP_STORED)


@st.composite
def _records(draw: st.DrawFn, name: str, content: bytes) -> Case:
    """A byte of one record changed, its checksum right: the pickle, the version, the order of bytes."""
    places = st.tuples(st.integers(0, 2**16), st.integers(0, 255))
    changes = draw(st.lists(places, min_size=1, max_size=3))
    which = draw(
        st.sampled_from(("data.pkl", "data.pkl", "data.pkl", "version", "byteorder", "data/0"))
    )

    def change(record_name: str, record: bytes) -> bytes:
        if not record_name.endswith(which) or not record:
            return record
        altered = bytearray(record)
        for place, value in changes:
            altered[place % len(altered)] = value
        return bytes(altered)

    return Case(name, _without_checksums(content, change))


# Weights ------------------------------------------------------------------------------------------


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)


def _weights(folder: Path) -> Sequence[str]:
    torch.manual_seed(0)
    state = _Net().state_dict()
    (folder / "weights.pt").write_bytes(_saved(state))
    (folder / "old.pth").write_bytes(_saved(state, old=True))
    save_file(state, folder / "weights.safetensors", {"normalisation": "caffe"})
    return ["weights.pt", "old.pth", "weights.safetensors"]


def _read_weights(folder: Path, name: str) -> None:
    net = _Net()
    fill(net, load_state(folder / name), folder / name)
    for value in net.state_dict().values():
        assert value.device.type == "cpu"
        assert value.layout == torch.strided
    with torch.no_grad():
        assert net.norm(net.conv(torch.ones(1, 3, 2, 2))).shape == (1, 2, 2, 2)


class _Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('code in a file was run')",)


def _other_states() -> list[Any]:
    state = _Net().state_dict()
    weight = state["conv.weight"]
    others: list[Any] = [
        weight.to_sparse(),
        weight.double(),
        weight.long(),
        weight.bool(),
        weight.to(torch.complex64),
        weight.to(torch.float8_e4m3fn),
        torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        torch.zeros(1).expand(2, 3, 1, 1),
        torch.zeros(1).expand(2**20, 2**20),
        weight[:0],
        weight.to("meta"),
        torch.full_like(weight, torch.nan),
        nn.Parameter(weight),
        weight.numpy().tolist(),
        None,
        5,
        "text",
    ]
    changed = [{**state, "conv.weight": value} for value in others]
    return [
        *changed,
        {},
        [],
        None,
        weight,
        {1: weight},
        {"a" * 5000: weight},
        {"state_dict": state},
        {f"layer{n}": weight for n in range(300)},
        OrderedDict(reversed(state.items())),
        {**state, "a\nb\x1b[31m": weight},
        {**state, "normalisation": "caffe"},
        {**state, "normalisation": 3},
        {"state_dict": state, "normalisation": [weight]},
        {"state_dict": [state]},
    ]


def _wrong_weights(folder: Path) -> st.SearchStrategy[Case]:
    whole, old = (folder / "weights.pt").read_bytes(), (folder / "old.pth").read_bytes()
    contents: list[bytes] = [_saved(state) for state in _other_states()]
    contents += [_saved(state, old=True) for state in _other_states() if not _is_meta(state)]
    contents += [pickle.dumps(_Hostile()), _deflated(whole), whole + old, old + whole]
    contents += [
        _without_checksums(
            whole, lambda n, r: pickle.dumps(_Hostile()) if n.endswith(".pkl") else r
        )
    ]
    arrays = io.BytesIO()
    np.savez(arrays, weight=np.zeros(3))
    contents.append(arrays.getvalue())
    makers: list[Callable[[], bytes]] = [*(partial(bytes, content) for content in contents), _bomb]
    return st.sampled_from(makers).map(lambda make: Case("weights.pt", make())) | _records(
        "weights.pt", whole
    )


def _is_meta(state: Any) -> bool:
    """Whether the older format cannot hold it."""
    return isinstance(state, dict) and any(
        isinstance(value, torch.Tensor) and value.device.type == "meta" for value in state.values()
    )


# Checkpoints --------------------------------------------------------------------------------------

ITERATIONS = 4


class _Batches:
    threads = True

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(iteration)
        return {"x": torch.rand(4, 3, generator=generator), "image_ids": [iteration]}


def _train(folder: Path, stop: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def losses(_: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        if stop is not None and batch["image_ids"] == [stop]:
            raise KeyboardInterrupt
        return {"square": model(batch["x"]).square().mean()}

    config = SGDConfig(lr=0.1, iterations=ITERATIONS, dtype="float32")
    train(Job(folder, checkpoint_seconds=-1.0), model, _Batches(), losses, config)
    return model


def _checkpoint(folder: Path) -> Sequence[str]:
    try:
        _train(folder, stop=2)
    except KeyboardInterrupt:
        return ["checkpoint.pt"]
    raise AssertionError


def _read_checkpoint(folder: Path, name: str) -> None:
    """Whatever is in it, training ends as if it had never been interrupted, or as if begun again."""
    content = (folder / name).read_bytes()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        model = _train(folder)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    rows = (folder / "losses.csv").read_text().splitlines()
    assert len(rows) <= ITERATIONS + 1
    (folder / name).write_bytes(content)  # a finished training removes it
    for line in said.getvalue().splitlines():
        if line.endswith("training from the start"):
            raise InputError(line)


def _wrong_checkpoint(folder: Path) -> st.SearchStrategy[Case]:
    whole = (folder / "checkpoint.pt").read_bytes()
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    weights, optimiser = state["model"], state["optimiser"]
    momentum = optimiser["state"]
    (group,) = optimiser["param_groups"][:1]

    def with_optimiser(**changes: Any) -> dict[str, Any]:
        return {**state, "optimiser": {**optimiser, **changes}}

    others: list[Any] = [
        *({**state, "iteration": value} for value in (-1, 0, 3, 4, 5, 10**12, 2.5, None, "2", [2])),
        *({key: value for key, value in state.items() if key != left} for left in state),
        *({**state, "model": value} for value in ({}, None, [], 5, weights["weight"])),
        {**state, "model": {key: value.double() for key, value in weights.items()}},
        {**state, "model": {key: value.to(torch.complex64) for key, value in weights.items()}},
        {**state, "model": {key: value.to_sparse() for key, value in weights.items()}},
        {**state, "model": {key: value * torch.nan for key, value in weights.items()}},
        {**state, "model": {key: value.to("meta") for key, value in weights.items()}},
        {**state, "model": {key: value.tolist() for key, value in weights.items()}},
        *({**state, "optimiser": value} for value in (None, {}, [], 5)),
        with_optimiser(state={}),
        with_optimiser(state=None),
        with_optimiser(state={0: {}}),
        with_optimiser(state={key: {"momentum_buffer": torch.zeros(7)} for key in momentum}),
        with_optimiser(state={key: {"momentum_buffer": None} for key in momentum}),
        with_optimiser(state={key: {"momentum_buffer": 5} for key in momentum}),
        with_optimiser(state={key: {"momentum_buffer": "text"} for key in momentum}),
        with_optimiser(state=dict.fromkeys(momentum, 5)),
        with_optimiser(param_groups=[]),
        with_optimiser(param_groups=[{**group, "lr": "fast"}] * len(optimiser["param_groups"])),
        with_optimiser(param_groups=[{**group, "momentum": None}] * len(optimiser["param_groups"])),
        with_optimiser(param_groups=[{"params": group["params"]}]),
        with_optimiser(param_groups=[5]),
    ]
    contents = [*map(_saved, others), _deflated(whole), pickle.dumps(_Hostile())]
    return st.sampled_from(contents).map(lambda content: Case("checkpoint.pt", content)) | _records(
        "checkpoint.pt", whole
    )


WEIGHTS = Reader("Weights", _weights, _read_weights, _wrong_weights)
CHECKPOINTS = Reader("Checkpoints", _checkpoint, _read_checkpoint, _wrong_checkpoint, quick=60)
