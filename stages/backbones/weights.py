"""Where a backbone's weights come from, and putting them in."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import torch
import torchvision.models as zoo
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import BackboneConfig, Name
from stages.backbones.expected import OPTION, expected_by, is_ours
from stages.backbones.networks import classifier, cut, tiny
from stages.backbones.normalisation import NORMALISATIONS, TORCHVISION, Normalisation
from stages.backbones.pretrain import pretrain
from stages.errors import InputError, check_regular, expand, one_line
from stages.fetching import fetch_file
from stages.store import Store
from stages.tensor_files import is_plain, load_safetensors, load_tensors

Network = TypeVar("Network", bound=nn.Module)
SAYS = ("normalisation", "normalization")  # keys of what a file says of its images


@dataclass(frozen=True)
class Weights:
    """A file of weights; `path` None: random ones.

    Attributes:
        fingerprint: of all that they are, the images they expect included.
        expects: those images; None: the file holds the numbers, as ours do, or they are torchvision's.
    """

    path: Path | None
    fingerprint: str
    expects: Normalisation | None = None


def find_weights(config: BackboneConfig, store: Store) -> Weights:
    """The file that `config.weights` means; trained or downloaded first where it must be.

    A given file is looked at now, whether it fits and what images it expects, and not when the first
    stage that reads it gets to it.

    Raises:
        InputError: no such file, it does not fit, or the download failed; or as `expected_by`.
    """
    name, wanted = config.name, config.normalisation
    if config.weights == "none":
        expects = NORMALISATIONS.get(wanted)  # what the network is to be trained on from the start
        return _with_images(Weights(None, "random"), expects)
    if config.weights in ("default", "drawn") and wanted not in ("auto", "torchvision"):
        raise InputError(
            f"{OPTION} {wanted}: is for a file: WEIGHTS={config.weights} takes torchvision's"
        )
    if config.weights == "drawn" or (config.weights == "default" and name == "tiny"):
        artifact = store.run(pretrain, name, config.pretrain)
        return Weights(artifact.path / "weights.pt", artifact.fingerprint)
    if config.weights == "default":
        return of_file(download(zoo.get_model_weights(name)["IMAGENET1K_V1"].url))
    found = of_file(path := expand(config.weights))
    state, says = read_weights(path)
    state = _renamed(name, state)
    with torch.device("meta"):
        network, backbone = _networks(name)
    whole = backbone if network is None or is_ours(state) else network
    check_fit(whole, state, path)
    expects = expected_by(state, says, found.fingerprint, name, wanted, path, whole, store.say)
    return _with_images(found, expects)


def _with_images(weights: Weights, expects: Normalisation | None) -> Weights:
    """`weights` that expect those images, which their fingerprint shows where they are not torchvision's."""
    if expects is None or expects == TORCHVISION:
        return weights
    numbers = "-".join(f"{value:.6g}" for value in (*expects.mean, *expects.std))
    mark = f"{weights.fingerprint}-{'bgr' if expects.bgr else 'rgb'}-{numbers}"
    return Weights(weights.path, mark, expects)


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
        network, backbone = _networks(name)
    if weights.path is not None:
        state = _renamed(name, load_state(weights.path))
        fill(backbone if network is None or is_ours(state) else network, state, weights.path)
    if weights.expects is not None:
        backbone.expect(weights.expects)
    return backbone


def _networks(name: Name) -> tuple[nn.Module | None, Backbone]:
    """torchvision's network, where there is one, and our cut of it, which shares its parameters."""
    if name == "tiny":
        return None, tiny()
    network = classifier(name)
    return network, cut(name, network)


def _renamed(name: Name, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state by torchvision's names.

    The first conversion of Caffe's VGG16 to PyTorch, which others were made of, counts the flattening of
    the last map as a layer of the classifier.
    """
    if name != "vgg16" or "classifier.4.weight" not in state:
        return state
    layers = {"classifier.1.": "classifier.0.", "classifier.4.": "classifier.3."}
    cut_at = len("classifier.1.")
    return {
        layers.get(key[:cut_at], key[:cut_at]) + key[cut_at:]: value for key, value in state.items()
    }


def load_state(path: Path) -> dict[str, Tensor]:
    """A file's state dict; nothing in it is executed.

    Raises:
        InputError: naming the file.
    """
    return read_weights(path)[0]


def read_weights(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """A file's state dict, and which normalisation it says that its images have had, if it does.

    It says so in the metadata of a .safetensors file (`{"normalisation": "caffe"}`), or in a .pth file
    under that key, beside the tensors or beside a `state_dict` of them. Nothing in it is executed.

    Raises:
        InputError: naming the file.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any
            state, notes = load_safetensors(path)
        else:
            state, notes = _apart(load_tensors(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a file of weights: {one_line(error)}") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and is_plain(value) for key, value in state.items()
    ):
        raise InputError(f"{path}: not a state dict (a dictionary of tensors)")
    return state, next((notes[key] for key in SAYS if isinstance(notes.get(key), str)), None)


def _apart(content: Any) -> tuple[Any, dict[str, Any]]:
    """What a .pth file holds as the state dict in it, if there is one, and what stands beside that."""
    if not isinstance(content, dict):
        return content, {}
    if isinstance(content.get("state_dict"), dict):
        return content["state_dict"], content
    notes = {key: value for key, value in content.items() if key in SAYS and isinstance(value, str)}
    return {key: value for key, value in content.items() if key not in notes}, notes


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
    _check_images(network, path)
    return network


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state`, strictly.

    Raises:
        InputError: naming the keys that are missing, left over, or of another shape.
    """
    check_fit(module, state, path)
    module.load_state_dict(state, strict=False)
    _check_images(module, path)


def check_fit(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Whether `state` has the module's keys and shapes, and no others.

    Raises:
        InputError: naming the keys that are missing, left over, or of another shape.
    """
    own = module.state_dict()
    # Counts of batches seen: absent from old files, and of no use to anyone. What is done to images:
    # absent from old files of ours, which are all for torchvision's normalisation, as a network is built.
    spare = {f"{name}{key}" for name, _ in _lookers(module) for key in ("mean", "std")}
    missing = [
        key
        for key in own
        if key not in state and not key.endswith("num_batches_tracked") and key not in spare
    ]
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


def _lookers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts that images go into, which hold a mean and a deviation, with the prefix of their state."""
    for name, part in module.named_modules():
        if {"mean", "std"} <= part._buffers.keys():
            yield f"{name}." if name else "", part


def _check_images(module: nn.Module, path: Path) -> None:
    """Raises InputError: no image can be normalised by the mean and deviation that the file has."""
    for _, part in _lookers(module):
        mean, std = part.get_buffer("mean"), part.get_buffer("std")
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise InputError(f"{path}: mean and std: no image can be normalised by these")


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
