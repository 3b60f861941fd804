"""A layer of scores over a backbone starts as the papers start it."""

from __future__ import annotations

import torch

from stages.backbones.classifier import Classifier
from stages.backbones.networks import tiny


def test_scores_start_near_nought() -> None:
    torch.manual_seed(0)
    model = Classifier(tiny(), 200)
    assert model.scores.weight.shape == (200, 256)
    weight = model.scores.weight.detach()
    assert 0.0095 < float(weight.std()) < 0.0105
    assert abs(float(weight.mean())) < 1e-3
    assert torch.equal(model.scores.bias, torch.zeros(200))


def test_scores_are_linear_in_the_backbones_features() -> None:
    torch.manual_seed(0)
    model = Classifier(tiny(), 3).eval()
    crops = torch.randn(2, 3, 64, 64)
    expected = model.backbone(crops) @ model.scores.weight.T + model.scores.bias
    torch.testing.assert_close(model(crops), expected)
