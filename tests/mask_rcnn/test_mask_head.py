"""The mask branch: its shapes, and which of its masks counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from mask_rcnn.config import MaskConfig
from mask_rcnn.mask_head import MaskHead

SMALL = MaskConfig(convs=2, width=6, fc=8)
CLASSES, CHANNELS, SIDE = 3, 5, 4


def make_head(**options: object) -> MaskHead:
    torch.manual_seed(0)
    return MaskHead(CHANNELS, SIDE, CLASSES, dataclasses.replace(SMALL, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("branch", ["fcn", "mlp"])
@pytest.mark.parametrize(
    ("loss", "class_specific", "outputs"),
    [("sigmoid", True, 3), ("sigmoid", False, 1), ("softmax", True, 4), ("softmax", False, 2)],
)
@pytest.mark.parametrize("rois", [0, 1, 7])
def test_shapes(branch: str, loss: str, class_specific: bool, outputs: int, rois: int) -> None:
    head = make_head(branch=branch, loss=loss, class_specific=class_specific)
    logits = head(torch.randn(rois, CHANNELS, SIDE, SIDE))
    assert logits.shape == (rois, outputs, 8, 8)
    assert (head.outputs, head.side) == (outputs, 8)
    labels = torch.arange(rois) % CLASSES + 1
    shares = head.probabilities(logits, labels)
    assert shares.shape == (rois, 8, 8)
    assert shares.dtype == torch.float32
    assert ((shares >= 0) & (shares <= 1)).all()


def test_as_torchvision() -> None:
    """Four convolutions of 256, then twice the resolution: the paper's right head (figure 4)."""
    head = MaskHead(256, 14, 4, MaskConfig())
    convs, predictor = MaskRCNNHeads(256, (256,) * 4, 1), MaskRCNNPredictor(256, 256, 5)
    with torch.no_grad():
        theirs = [*(block[0] for block in convs), predictor.conv5_mask]
        ours = [part for part in head.features if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d))]
        for of_theirs, of_ours in zip(theirs, ours, strict=True):
            of_theirs.load_state_dict(of_ours.state_dict())
        logits = predictor.mask_fcn_logits
        for kind in ("weight", "bias"):  # theirs has one for the background, too
            own = head.logits.get_parameter(kind)
            logits.get_parameter(kind).copy_(torch.cat([own[:1], own]))
        pooled = torch.randn(2, 256, 14, 14)
        torch.testing.assert_close(head(pooled), predictor(convs(pooled))[:, 1:])


@pytest.mark.parametrize(("convs", "asked", "layers"), [(2, None, 2), (2, 0, 0), (0, None, 0)])
def test_convolutions_before_the_deconvolution(convs: int, asked: int | None, layers: int) -> None:
    head = MaskHead(CHANNELS, SIDE, CLASSES, dataclasses.replace(SMALL, convs=convs), convs=asked)
    found = [part for part in head.features if isinstance(part, nn.Conv2d)]
    assert [part.kernel_size for part in found] == [(3, 3)] * layers
    assert head(torch.randn(2, CHANNELS, SIDE, SIDE)).shape == (2, CLASSES, 8, 8)


def test_a_convolutional_branch_keeps_position_and_the_mlp_forgets_it() -> None:
    """Table 2e: an input's corner reaches the mask's corner alone, or all of it."""
    for branch, everywhere in (("fcn", False), ("mlp", True)):
        pooled = torch.randn(1, CHANNELS, 8, 8)
        config = dataclasses.replace(SMALL, branch=branch)  # type: ignore[arg-type]
        head = MaskHead(CHANNELS, 8, CLASSES, config)
        other = pooled.clone()
        other[:, :, 0, 0] += 5
        changed = (head(other) - head(pooled)).abs().amax(dim=(0, 1)) > 1e-6
        assert changed[:6, :6].any()
        assert bool(changed[8:, 8:].any()) == everywhere


def test_probabilities_are_those_of_the_true_class() -> None:
    head = make_head()
    logits = torch.tensor([-2.0, 0, 3])[None, :, None, None].expand(3, 3, 8, 8)
    found = head.probabilities(logits, torch.tensor([3, 1, 2]))
    assert found[:, 0, 0].tolist() == pytest.approx([0.952574, 0.119203, 0.5], abs=1e-6)
    # No other class has a say.
    rest = logits.clone()
    rest[0, :2] = 100
    assert torch.equal(head.probabilities(rest, torch.tensor([3, 1, 2])), found)


def test_in_a_softmax_classes_compete() -> None:
    head = make_head(loss="softmax")
    # Background first; e to the powers 0, log 2, log 3 and log 4 are 1, 2, 3 and 4 of 10. Each against
    # the strongest of the others: 2 and 4, 3 and 4, 4 and 3.
    logits = torch.tensor([1.0, 2, 3, 4]).log()[None, :, None, None].expand(3, 4, 8, 8)
    found = head.probabilities(logits, torch.tensor([1, 2, 3]))
    assert found[:, 5, 2].tolist() == pytest.approx([2 / 6, 3 / 7, 4 / 7])


def test_one_mask_for_all_classes() -> None:
    logits = torch.randn(3, 1, 8, 8)
    head = make_head(class_specific=False)
    assert torch.equal(head.probabilities(logits, torch.tensor([3, 1, 2])), logits[:, 0].sigmoid())
    both = torch.tensor([1.0, 3]).log()[None, :, None, None].expand(2, 2, 8, 8)
    head = make_head(class_specific=False, loss="softmax")
    found = head.probabilities(both, torch.tensor([3, 1]))
    torch.testing.assert_close(found, torch.full((2, 8, 8), 0.75))


def test_features_in_bfloat16_logits_in_float32() -> None:
    head = make_head()
    head.features.to(torch.bfloat16)
    assert head(torch.randn(2, CHANNELS, SIDE, SIDE).to(torch.bfloat16)).dtype == torch.float32
