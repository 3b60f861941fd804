"""Where a backbone's weights come from, and putting them in."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

import torch
import torchvision.models as zoo
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import BackboneConfig, Name
from stages.backbones.networks import classifier, cut, tiny
from stages.backbones.pretrain import pretrain
from stages.errors import InputError, check_regular, expand, one_line
from stages.fetching import fetch_file
from stages.store import Store
from stages.tensor_files import is_plain, load_tensors

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Weights:
    """A file of weights; `path` None: random ones."""

    path: Path | None
    fingerprint: str


def find_weights(config: BackboneConfig, store: Store) -> Weights:
    """The file that `config.weights` means; trained or downloaded first where it must be.

    Raises:
        InputError: no such file, or the download failed.
    """
    if config.weights == "none":
        return Weights(None, "random")
    if config.weights == "drawn" or (config.weights == "default" and config.name == "tiny"):
        artifact = store.run(pretrain, config.name, config.pretrain)
        return Weights(artifact.path / "weights.pt", artifact.fingerprint)
    if config.weights == "default":
        return of_file(download(zoo.get_model_weights(config.name)["IMAGENET1K_V1"].url))
    return of_file(expand(config.weights))


def of_file(path: Path) -> Weights:
    """A file of weights, known by its content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        check_regular(path)
        with open(path, "rb") as file:
            return Weights(path, hashlib.file_digest(file, "sha256").hexdigest()[:16])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def build_backbone(name: Name, weights: Weights) -> Backbone:
    """The network with its weights in it.

    Raises:
        InputError: the file is no state dict, or its keys or shapes are not the network's.
    """
    # Layers without weights of their own start the same in every run.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = None if name == "tiny" else classifier(name)
        backbone = tiny() if network is None else cut(name, network)
    if weights.path is None:
        return backbone
    state = load_state(weights.path)
    if network is None or any(key.startswith("trunk.") for key in state):
        fill(backbone, state, weights.path)
    else:
        fill(network, state, weights.path)
    return backbone


def load_state(path: Path) -> dict[str, Tensor]:
    """A file's state dict; nothing in it is executed.

    Raises:
        InputError: naming the file.
    """
    try:
        state = load_tensors(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a file of weights: {one_line(error)}") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and is_plain(value) for key, value in state.items()
    ):
        raise InputError(f"{path}: not a state dict (a dictionary of tensors)")
    return state


def load_built(build: Callable[[], Network], path: Path, unbuildable: str) -> Network:
    """The network that `build` makes, with a file's weights in it.

    It is held against the file before anything is allocated: a description may ask for terabytes.

    Args:
        build: as some description says; the weights it begins with do not matter.
        unbuildable: begins the message when there is no such network.

    Raises:
        InputError: the file is no state dict, no such network can be built, or they do not fit.
    """
    state = load_state(path)
    try:
        with torch.device("meta"):
            planned = build()
    except Exception as error:  # a width of 10^30, say
        reason = error.line if isinstance(error, InputError) else one_line(error)[:200]
        raise InputError(f"{unbuildable}: {reason}") from None
    check_fit(planned, state, path)
    network = build()
    network.load_state_dict(state, strict=False)
    return network


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state`, strictly.

    Raises:
        InputError: naming the keys that are missing, left over, or of another shape.
    """
    check_fit(module, state, path)
    module.load_state_dict(state, strict=False)


def check_fit(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Whether `state` has the module's keys and shapes, and no others.

    Raises:
        InputError: naming the keys that are missing, left over, or of another shape.
    """
    own = module.state_dict()
    # Counts of batches seen: absent from old files, and of no use to anyone.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} {list(state[key].shape)} for {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        f"{what} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for what, keys in (("missing", missing), ("not in the network", extra), ("shape", shapes))
        if keys
    ]
    if faults:
        raise InputError(f"{path}: does not fit {type(module).__name__}: {'; '.join(faults)}")


def download(url: str) -> Path:
    """torchvision's file of weights at that address, from its own cache if it is there.

    Raises:
        InputError: the download failed, or what is in the cache is not what was published.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.exists():  # what another program, or a person, put there
        try:
            _check_published(path, path.name)
        except ValueError as error:
            raise InputError(f"{path}: {error}; remove it to have it fetched") from None
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two runs may fetch it at once
        print(f"fetching {url}", file=sys.stderr, flush=True)
        try:
            fetch_file(url, part)
            _check_published(part, path.name)
            os.replace(part, path)
        except (OSError, HTTPException, ValueError) as error:
            raise InputError(
                f"{url}: download failed ({one_line(error)}); put the file there yourself: {path}"
            ) from None
        finally:
            part.unlink(missing_ok=True)
    return path


def _check_published(path: Path, name: str) -> None:
    """Raises ValueError: the file is not the one that torchvision published by that name."""
    # Its names end in the first eight digits of the file's SHA-256.
    published, found = Path(name).stem.rpartition("-")[2], of_file(path).fingerprint
    if not found.startswith(published):
        raise ValueError(f"its SHA-256 begins with {found}, not {published} as published")
