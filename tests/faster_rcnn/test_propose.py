"""The RPN's proposals on disk: what the network says of each image, killed or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fast_rcnn.config import ScaleConfig
from faster_rcnn.config import AnchorConfig, ProposalConfig, RPNConfig
from faster_rcnn.network import FasterRCNN, build_untrained
from faster_rcnn.propose import propose_by_rpn
from stages.backbones.weights import Weights, build_backbone
from stages.data.images import image_tensor
from stages.data.records import Record
from stages.device import DType
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.store import Artifact, Job

RANDOM = Weights(None, "random")
SCALE = ScaleConfig(train=(64,), test=(64,), longest=200)
RPN = RPNConfig(width=16, anchors=AnchorConfig(sizes=(16.0, 32.0)))
PROPOSALS = ProposalConfig(before=100, after=20, least_side=4.0)


def model_of(toy: Any, proposals: ProposalConfig = PROPOSALS) -> FasterRCNN:
    """The same every time."""
    torch.manual_seed(6)
    model = build_untrained(
        build_backbone("tiny", RANDOM), toy.classes, RPN, SCALE, proposals=proposals
    )
    with torch.no_grad():
        model.rpn.scores.weight.normal_(std=0.1)
        model.rpn.offsets.weight.normal_(std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def trained(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("trained")
    torch.save(model_of(toy).state_dict(), folder / "weights.pt")
    return Artifact(folder, "trained")


def proposed(
    folder: Path,
    toy: Any,
    trained: Artifact,
    proposals: ProposalConfig = PROPOSALS,
    dtype: DType = "float32",
    split: Any = "test",
    workers: int = 0,
) -> list[np.ndarray]:
    """Each image's boxes, from the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, workers=workers)
    propose_by_rpn(job, toy, trained, "tiny", SCALE, RPN, proposals, dtype, split)
    assert {path.name for path in folder.iterdir()} == {"proposals.h5", "recall.json"}
    reader = Proposals(folder / "proposals.h5")
    return [reader.of(record) for record in (toy.train if split == "train" else toy.test)]


def test_they_are_what_the_network_proposes(toy: Any, trained: Artifact, tmp_path: Path) -> None:
    model = model_of(toy)
    found = proposed(tmp_path, toy, trained)
    assert len(found) == 18
    for boxes, record in zip(found, toy.test, strict=True):
        ((expected, _),) = model.propose([image_tensor(record)])
        assert boxes.dtype == np.float32
        assert 5 < len(boxes) <= 20
        # Best first, in the image's own pixels.
        np.testing.assert_allclose(boxes, expected.numpy(), atol=1e-3)
        assert boxes.min() >= 0
        assert (boxes <= np.array([60, 48, 60, 48]) + 1e-3).all()


def test_only_the_split_that_is_asked_for(toy: Any, trained: Artifact, tmp_path: Path) -> None:
    class Apart:
        """Another three images to train on than to test."""

        name, fingerprint = "apart", "apart"
        classes, category_ids = toy.classes, toy.category_ids
        train, test = toy.train[:3], toy.train[3:5]

    for split, ours, other in (
        ("train", Apart.train, Apart.test),
        ("test", Apart.test, Apart.train),
    ):
        folder = tmp_path / split
        proposed(folder, Apart, trained, split=split)
        reader = Proposals(folder / "proposals.h5")
        assert all(len(reader.of(record)) for record in ours)
        with pytest.raises(InputError):
            reader.of(other[0])
        assert json.loads((folder / "recall.json").read_text()).keys() == {split}


def test_as_many_as_are_asked_for(toy: Any, trained: Artifact, tmp_path: Path) -> None:
    few = proposed(tmp_path / "few", toy, trained, replace(PROPOSALS, after=3))
    many = proposed(tmp_path / "many", toy, trained)
    for boxes, more in zip(few, many, strict=True):
        assert len(boxes) == 3
        np.testing.assert_array_equal(boxes, more[:3])


def test_none_at_all(toy: Any, trained: Artifact, tmp_path: Path) -> None:
    found = proposed(tmp_path, toy, trained, replace(PROPOSALS, least_side=900.0))
    assert [boxes.shape for boxes in found] == [(0, 4)] * 18


def test_in_bfloat16_nearly_the_same_are_found(toy: Any, trained: Artifact, tmp_path: Path) -> None:
    # Anchors as they are, all of them: only the order tells the two apart.
    config = ProposalConfig(None, 1.0, 1000, 4.0, boxes="none")
    exact = proposed(tmp_path / "exact", toy, trained, config)
    rough = proposed(tmp_path / "rough", toy, trained, config, "bfloat16")
    for one, other in zip(exact, rough, strict=True):
        assert sorted(map(tuple, one)) == sorted(map(tuple, other))
    assert any(not np.array_equal(one, other) for one, other in zip(exact, rough, strict=True))


def test_a_training_without_an_rpn_is_refused(toy: Any, tmp_path: Path) -> None:
    state = {k: v for k, v in model_of(toy).state_dict().items() if not k.startswith("rpn.")}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt"):
        proposed(tmp_path / "found", toy, Artifact(tmp_path, "x"))


# Killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", ["rpn", "none"])
def test_one_that_died_ends_as_one_that_did_not(
    toy: Any, trained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: Any
) -> None:
    config = replace(PROPOSALS, scores=scores)
    whole = proposed(tmp_path / "whole", toy, trained, config)
    plain = FasterRCNN.propose
    seen: list[int] = []

    def dies(self: FasterRCNN, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        if len(seen) == 17:  # the second shard's second
            raise ZeroDivisionError
        seen.append(1)
        return plain(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(FasterRCNN, "propose", dies)
        with pytest.raises(ZeroDivisionError):
            proposed(tmp_path / "died", toy, trained, config)
    assert not (tmp_path / "died/proposals.h5").exists()
    seen.clear()

    def counts(self: FasterRCNN, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        seen.append(1)
        return plain(self, images)

    monkeypatch.setattr(FasterRCNN, "propose", counts)
    torch.manual_seed(987)
    again = proposed(tmp_path / "died", toy, trained, config)
    assert len(seen) == 2, "the first shard is not made again"
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("scores", ["rpn", "none"])
def test_neither_threads_nor_what_ran_before_shape_them(
    toy: Any, trained: Artifact, tmp_path: Path, scores: Any
) -> None:
    config = replace(PROPOSALS, scores=scores)
    whole = proposed(tmp_path / "whole", toy, trained, config)
    torch.manual_seed(987)
    again = proposed(tmp_path / "again", toy, trained, config, workers=2)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_scores_the_order_is_by_chance_in_each_image(
    toy: Any, trained: Artifact, tmp_path: Path
) -> None:
    config = ProposalConfig(None, 1.0, 1000, 4.0, scores="none", boxes="none")
    found = proposed(tmp_path, toy, trained, config)
    records: list[Record] = toy.test
    assert len({(record.width, record.height) for record in records}) == 1
    # The same anchors in every image, in another order in each.
    assert len({tuple(sorted(map(tuple, boxes))) for boxes in found}) == 1
    assert len({tuple(map(tuple, boxes)) for boxes in found}) == 18
