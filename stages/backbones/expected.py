"""Which images a file of weights expects: what it says, what is known of it, what its numbers betray.

F filters of the first layer, n weights of each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision.models as zoo
from torch import Tensor, nn

from stages.backbones.config import Expected, Name
from stages.backbones.normalisation import IN_WORDS, NORMALISATIONS, TORCHVISION, Normalisation
from stages.errors import InputError

OPTION = "--backbone.normalisation"
# What torchvision published under these names before: the first digits of the files' SHA-256.
EARLIER: dict[str, tuple[str, ...]] = {
    "alexnet": ("4df8aa71",),
    "resnet18": ("5c106cde",),
    "resnet50": ("19c8e357",),
    "squeezenet1_1": ("f364aa15",),
}
# The first biases of the VGG16 that the Oxford group trained with Caffe, the papers' model L. All its
# conversions have them, and nothing else tells: its filters are of the size of torchvision's.
CAFFE_VGG16 = (0.7301776, 0.06493629, 0.03428847, 0.8260386, 0.2578029, 0.54867655)
# The norm of the first layer's filters, batch norm carried into them, in the middle of all of them. What
# sees deviations of 1 has 0.2 to 2, what learnt over a batch norm from deviations of 57 so many times less.
SMALLEST_NORM = 0.05
ALIVE = 0.01  # of the largest norm; ImageNet's ResNets have filters that nothing comes out of


def expected_by(
    state: dict[str, Tensor],
    says: str | None,
    fingerprint: str,
    name: Name,
    wanted: Expected,
    path: Path,
    network: nn.Module,
    say: Callable[[str], None],
) -> Normalisation | None:
    """Which images the weights expect; None: the state holds the numbers.

    Args:
        state: what is in the file, which fits; says: its own word, see `read_weights`.
        fingerprint: the file's, see `of_file`.
        wanted: by the user, whose word counts most.
        path: the file's, for messages.
        network: that the file is of, on whatever device.
        say: called with what is guessed, in a line.

    Raises:
        InputError: the file's word is none that is known, the user's is against a file of our own, or
            the weights are for other images than torchvision's and nobody says which.
    """
    if is_ours(state) and {"mean", "std"} <= state.keys():
        if wanted != "auto" and not _are(NORMALISATIONS[wanted], state["mean"], state["std"]):
            raise InputError(
                f"{path}: was trained here, on other images than {OPTION} {wanted} says; leave it out"
            )
        return None
    if wanted == "auto" and says is not None and says not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        raise InputError(f"{path}: says normalisation {says!r}, which is none of {known}; {OPTION}")
    of_torchvision = published(name, fingerprint)
    expected = NORMALISATIONS.get(says or "") or of_torchvision
    if wanted != "auto":
        expected = NORMALISATIONS[wanted]
        if says is not None and says != wanted:
            say(f"{path}: says {says}, but {OPTION} {wanted} counts")
        elif says is None and of_torchvision not in (None, expected):
            say(f"{path}: was published by torchvision, but {OPTION} {wanted} counts")
    elif expected is None:
        expected = TORCHVISION
        if not is_ours(state):  # which were so before they held the numbers
            _refuse_others(state, path, network)
            say(
                f"{path}: is no file known to be torchvision's, nor says what images it expects: taken "
                f"as torchvision's ({IN_WORDS['torchvision']}); where it is otherwise say {OPTION} "
                f"caffe ({IN_WORDS['caffe']}) or tf ({IN_WORDS['tf']})"
            )
    if expected == NORMALISATIONS["caffe"] and name == "resnet50":
        say(
            f"{path}: Caffe's ResNet-50 has the stride in a block's first convolution, this network in "
            "its second, as torchvision's: expect a little less of it"
        )
    return expected


def is_ours(state: dict[str, Tensor]) -> bool:
    """Whether it is a `Backbone`'s state, not one of torchvision's networks'."""
    return any(key.startswith("trunk.") for key in state)


def published(name: Name, fingerprint: str) -> Normalisation | None:
    """What torchvision says of its own file; None: it is none that torchvision published for the network."""
    if name == "tiny":
        return None
    for entry in zoo.get_model_weights(name):
        # The name ends in the first eight digits of the file's SHA-256.
        digits = entry.url.rpartition("-")[2].removesuffix(".pth")
        if fingerprint.startswith(digits):
            transforms = entry.transforms()
            return Normalisation(tuple(transforms.mean), tuple(transforms.std))
    return TORCHVISION if fingerprint.startswith(EARLIER.get(name, ())) else None


def _refuse_others(state: dict[str, Tensor], path: Path, network: nn.Module) -> None:
    """Raises InputError where the weights are plainly for other images than torchvision's."""
    bias = state.get("features.0.bias")
    if bias is not None and len(bias) == 64:
        first = bias[: len(CAFFE_VGG16)].double()
        if torch.allclose(first, torch.tensor(CAFFE_VGG16).double(), atol=1e-4):
            raise InputError(
                f"{path}: is VGG16 as Caffe trained it, which expects {IN_WORDS['caffe']}, unless who "
                f"converted it changed that: say {OPTION} caffe (or torchvision, tf)"
            )
    if first_norm(state, network) < SMALLEST_NORM:
        raise InputError(
            f"{path}: its first layer is so small that it must be for pixels of 0 to 255, and it does "
            f"not say which: say {OPTION} caffe ({IN_WORDS['caffe']}), or torchvision if it is not so"
        )


def first_norm(state: dict[str, Tensor], network: nn.Module) -> float:
    """The median norm [F] of the first layer's filters [F, n] that anything comes out of.

    A batch norm right after is carried into them: it undoes any scale of theirs, but not of its own.

    Args:
        network: the torchvision network whose state it is.
    """
    layers = list(network.named_modules())
    at = next(n for n, (_, layer) in enumerate(layers) if isinstance(layer, nn.Conv2d))
    norms = state[f"{layers[at][0]}.weight"].double().flatten(1).norm(dim=1)
    after, norm = layers[at + 1]
    if isinstance(norm, nn.BatchNorm2d):
        variance = state[f"{after}.running_var"].double() + norm.eps
        norms = norms * state[f"{after}.weight"].double().abs() / variance.sqrt()
    return float(norms[norms >= ALIVE * norms.max()].median())


def _are(images: Normalisation, mean: Tensor, std: Tensor) -> bool:
    """Whether these numbers, per RGB channel, are that normalisation's."""
    given = torch.cat([mean.flatten(), std.flatten()]).double()
    wanted = torch.tensor([*images.mean, *images.std]).double()
    return given.shape == wanted.shape and torch.allclose(given, wanted, atol=1e-6)
