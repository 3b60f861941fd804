"""The two output layers: what they begin as, whose offset is whose, and folding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fast_rcnn.predictor import Predictor


def test_they_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    predictor = Predictor(1024, 20)
    assert predictor.scores.weight.shape == (21, 1024)
    assert predictor.offsets.weight.shape == (80, 1024)
    for layer, deviation in ((predictor.scores, 0.01), (predictor.offsets, 0.001)):
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx(deviation, rel=0.05)
        assert abs(float(weight.mean())) < deviation / 20
        # Normal, not uniform: a third lies beyond a deviation, one in twenty beyond two.
        beyond = [float((weight.abs() > n * deviation).float().mean()) for n in (1, 2)]
        assert beyond == pytest.approx([0.317, 0.0455], abs=0.01)
        assert (layer.bias == 0).all()


def test_they_are_siblings() -> None:
    # Both see the features; neither sees the other.
    predictor = Predictor(6, 3)
    features = torch.randn(5, 6)
    scores, offsets = predictor(features)
    assert scores.shape == (5, 4)
    assert offsets.shape == (5, 3, 4)
    torch.testing.assert_close(scores, features @ predictor.scores.weight.T)
    flat = features @ predictor.offsets.weight.T
    for k in range(3):
        torch.testing.assert_close(offsets[:, k], flat[:, 4 * k : 4 * k + 4])


def test_no_roi() -> None:
    scores, offsets = Predictor(6, 3)(torch.zeros(0, 6))
    assert scores.shape == (0, 4)
    assert offsets.shape == (0, 3, 4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_folded_it_says_what_it_learnt_in_the_boxes_own_terms(seed: int, classes: int) -> None:
    torch.manual_seed(seed)
    predictor = Predictor(7, classes).double()
    with torch.no_grad():
        for p in predictor.parameters():
            p.normal_()
    mean, std = torch.randn(classes, 4).double(), torch.rand(classes, 4).double() + 0.01
    features = torch.randn(9, 7).double()
    scores, before = predictor(features)
    predictor.fold(mean, std)
    same, after = predictor(features)
    torch.testing.assert_close(after, mean + std * before)
    assert torch.equal(same, scores)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_unfolded_it_learns_on_where_it_was(seed: int, classes: int) -> None:
    torch.manual_seed(seed)
    predictor = Predictor(7, classes).double()
    with torch.no_grad():
        for p in predictor.parameters():
            p.normal_()
    before = {key: value.clone() for key, value in predictor.state_dict().items()}
    mean, std = torch.randn(classes, 4).double(), torch.rand(classes, 4).double() + 0.01
    predictor.fold(mean, std)
    predictor.unfold(mean, std)
    for key, value in predictor.state_dict().items():
        torch.testing.assert_close(value, before[key])
        assert key.startswith("offsets.") or torch.equal(value, before[key])
    # With statistics that are others, it says the same of a box in their terms.
    features = torch.randn(9, 7).double()
    _, said = predictor(features)
    predictor.unfold(mean, std)
    torch.testing.assert_close(predictor(features)[1], (said - mean) / std)


def test_folding_what_needs_none_changes_nothing() -> None:
    predictor = Predictor(7, 2)
    features = torch.randn(3, 7)
    _, before = predictor(features)
    for change in (predictor.fold, predictor.unfold):
        change(torch.zeros(2, 4), torch.ones(2, 4))
        assert torch.equal(predictor(features)[1], before)
