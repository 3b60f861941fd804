"""4-step alternating training: who starts from whom, what is shared, and what is put together of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fast_rcnn.config import DetectionConfig, SamplingConfig, ScaleConfig, TrainConfig
from faster_rcnn.alternating import Steps, alternate
from faster_rcnn.config import (
    AlternatingConfig,
    AnchorConfig,
    Config,
    LabelConfig,
    ProposalConfig,
    RPNConfig,
    RPNLossConfig,
)
from faster_rcnn.detector import load
from faster_rcnn.network import build_untrained
from faster_rcnn.pipeline import assemble, assemble_from
from faster_rcnn.train import load_parts
from stages.backbones.weights import Weights, build_backbone, load_state
from stages.data.images import image_tensor
from stages.proposals.cache import Proposals
from stages.store import Artifact, Job, Store
from stages.training.sgd import SGDConfig

State = dict[str, Tensor]
RANDOM = Weights(None, "random")
LEARNS = TrainConfig(
    sgd=SGDConfig(lr=0.01, iterations=3, dtype="float32"), new_layer_factor=1.0, learn="all"
)
STILL = replace(LEARNS, sgd=replace(LEARNS.sgd, lr=0.0, iterations=1))
CONFIG = Config(
    scale=ScaleConfig(train=(64,), test=(64,), longest=200),
    rpn=RPNConfig(
        width=16, anchors=AnchorConfig(sizes=(16.0, 32.0)), labels=LabelConfig(anchors=32)
    ),
    alternating=AlternatingConfig(
        rpn=LEARNS,
        rpn_images=2,
        detector=LEARNS,
        proposals=ProposalConfig(None, after=30, least_side=4.0),
        sampling=SamplingConfig(rois=8),
    ),
    proposals=ProposalConfig(50, after=9, least_side=4.0),
    detection=DetectionConfig(dtype="float32"),
)


def still(**changes: TrainConfig) -> Config:
    return replace(CONFIG, alternating=replace(CONFIG.alternating, **changes))  # type: ignore[arg-type]


def state_of(trained: Artifact) -> State:
    return load_state(trained.path / "weights.pt")


def part(state: State, prefix: str) -> State:
    found = {key: value for key, value in state.items() if key.startswith(prefix)}
    assert found
    return found


def same(one: State, other: State) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs"), workers=0)


@pytest.fixture(scope="module")
def steps(toy: Any, store: Store) -> Steps:
    return alternate(CONFIG, toy, RANDOM, store)


TRUNK = "backbone.trunk."


def test_the_last_three_share_their_convolutions_bit_for_bit(steps: Steps) -> None:
    trunks = [
        part(state_of(trained), TRUNK)
        for trained in (steps.rpn, steps.detector, steps.shared_rpn, steps.shared_detector)
    ]
    assert same(trunks[1], trunks[2])
    assert same(trunks[1], trunks[3])
    # "At this point the two networks do not share convolutional layers": in no layer.
    convolutions = [key for key in trunks[0] if key.endswith(".0.weight")]
    assert len(convolutions) == 5
    assert not any(torch.equal(trunks[0][key], trunks[1][key]) for key in convolutions)


def test_every_step_leaves_what_it_says(steps: Steps) -> None:
    assert steps.all == (
        steps.rpn,
        steps.proposals,
        steps.detector,
        steps.shared_rpn,
        steps.shared_proposals,
        steps.shared_detector,
    )
    assert len({trained.path for trained in steps.all}) == 6
    for rpn in (steps.rpn, steps.shared_rpn):
        assert {key.split(".")[0] for key in state_of(rpn)} == {"backbone", "rpn"}
    for detector in (steps.detector, steps.shared_detector):
        assert {key.split(".")[0] for key in state_of(detector)} == {"backbone", "predictor"}
        assert any(key.startswith("backbone.head.") for key in state_of(detector))


def test_the_last_two_learn_what_is_their_own(steps: Steps) -> None:
    first, third = (part(state_of(rpn), "rpn.") for rpn in (steps.rpn, steps.shared_rpn))
    assert not any(torch.equal(first[key], third[key]) for key in first)
    for prefix in ("backbone.head.", "predictor."):
        second, fourth = (
            part(state_of(d), prefix) for d in (steps.detector, steps.shared_detector)
        )
        assert not any(torch.equal(second[key], fourth[key]) for key in second)


def test_the_second_starts_from_the_backbones_weights_not_from_the_first(
    toy: Any, store: Store
) -> None:
    # The detector does not learn: its convolutions are the ones both started from.
    found = alternate(still(detector=STILL), toy, RANDOM, store)
    begun = {
        f"backbone.{key}": value
        for key, value in build_backbone("tiny", RANDOM).state_dict().items()
        if key.startswith("trunk.") and key.endswith(".0.weight")
    }
    trunk = part(state_of(found.detector), TRUNK)
    assert all(torch.equal(trunk[key], value) for key, value in begun.items())
    first = part(state_of(found.rpn), TRUNK)
    assert not any(torch.equal(first[key], value) for key, value in begun.items())


def test_the_fourth_starts_from_the_second_boxes_too(toy: Any, store: Store) -> None:
    # Where the detector does not learn it is the same after it, although its proposals and with them
    # the statistics of its targets are others: they are folded out, in, and out again.
    found = alternate(still(detector=STILL), toy, RANDOM, store)
    second, fourth = (state_of(d) for d in (found.detector, found.shared_detector))
    assert second.keys() == fourth.keys()
    for key, value in second.items():
        if key.startswith("predictor.offsets."):
            torch.testing.assert_close(fourth[key], value, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(fourth[key], value), key
    # A box layer that began anew would say the mean of other proposals' offsets.
    other = alternate(
        replace(
            still(detector=STILL),
            alternating=replace(
                still(detector=STILL).alternating,
                proposals=ProposalConfig(None, after=12, least_side=4.0),
            ),
        ),
        toy,
        RANDOM,
        store,
    )
    bias = "predictor.offsets.bias"
    assert float((state_of(other.detector)[bias] - second[bias]).abs().max()) > 1e-3


def test_the_third_learns_over_the_seconds_convolutions_from_a_new_start(
    toy: Any, store: Store
) -> None:
    # RPNs that do not learn are the new layers they started as, in step 3 as in step 1.
    found = alternate(still(rpn=STILL), toy, RANDOM, store)
    first, third = (state_of(rpn) for rpn in (found.rpn, found.shared_rpn))
    assert same(part(first, "rpn."), part(third, "rpn."))
    assert same(part(third, TRUNK), part(state_of(found.detector), TRUNK))


@pytest.mark.parametrize(
    ("rpn", "proposed"), [("rpn", "proposals"), ("shared_rpn", "shared_proposals")]
)
def test_each_detector_learns_from_its_own_rpns_proposals(
    toy: Any, steps: Steps, rpn: str, proposed: str
) -> None:
    model = build_untrained(
        build_backbone("tiny", RANDOM),
        toy.classes,
        CONFIG.rpn,
        CONFIG.scale,
        proposals=CONFIG.alternating.proposals,
    )
    load_parts(model, getattr(steps, rpn), TRUNK, "rpn.")
    model.eval()
    artifact = getattr(steps, proposed)
    reader = Proposals(artifact.path / "proposals.h5")
    for record in toy.train[::5]:
        ((boxes, _),) = model.propose([image_tensor(record)])
        assert 5 < len(boxes) <= 30
        np.testing.assert_allclose(reader.of(record), boxes.numpy(), atol=1e-2)
    assert json.loads((artifact.path / "recall.json").read_text()).keys() == {"train"}
    detector = steps.detector if rpn == "rpn" else steps.shared_detector
    assert artifact.fingerprint in json.dumps(detector.manifest["inputs"])


def test_found_again_nothing_is_trained(
    toy: Any, store: Store, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "_make", lambda *_: pytest.fail("made again"))
    assert alternate(CONFIG, toy, RANDOM, store) == steps


def test_what_learns_with_the_heads_alone(toy: Any, store: Store) -> None:
    # Where step 2 leaves the early layers as they are, so do all.
    default = replace(LEARNS, learn="default")
    found = alternate(still(rpn=default, detector=default), toy, RANDOM, store)
    begun = build_backbone("tiny", RANDOM).state_dict()["trunk.0.0.weight"]
    for trained in (found.rpn, found.detector, found.shared_rpn, found.shared_detector):
        assert torch.equal(state_of(trained)["backbone.trunk.0.0.weight"], begun)


# Put together --------------------------------------------------------------------------------


def test_the_finished_model_is_of_the_third_and_the_fourth(
    toy: Any, store: Store, steps: Steps
) -> None:
    model = assemble_from(CONFIG, toy, steps.shared_rpn, steps.shared_detector, store)
    state = state_of(model)
    assert same(part(state, "rpn."), part(state_of(steps.shared_rpn), "rpn."))
    for prefix in (TRUNK, "backbone.head.", "predictor."):
        assert same(part(state, prefix), part(state_of(steps.shared_detector), prefix))
    loaded = load(model.path, "cpu")
    assert loaded.proposals == CONFIG.proposals
    assert loaded.detection == CONFIG.detection
    assert loaded.scale == CONFIG.scale
    # It says which loss it was trained with.
    assert loaded.rpn.config == replace(CONFIG.rpn, loss=RPNLossConfig("matlab", 10.0))
    assert loaded.classes == toy.classes


@pytest.mark.parametrize("pick", [("rpn", "detector"), ("rpn", "shared_detector")])
def test_convolutions_that_are_not_shared_are_refused(
    toy: Any, steps: Steps, tmp_path: Path, pick: tuple[str, str]
) -> None:
    rpn, detector = (getattr(steps, name) for name in pick)
    with pytest.raises(ValueError, match=r"backbone\.trunk\..* is not shared"):
        put_together(toy, rpn, detector, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_number_that_is_not_shared_is_enough(toy: Any, steps: Steps, tmp_path: Path) -> None:
    state = state_of(steps.shared_rpn)
    state["backbone.trunk.4.0.weight"][-1, -1, -1, -1] += 1e-6
    (tmp_path / "rpn").mkdir()
    (tmp_path / "model").mkdir()
    torch.save(state, tmp_path / "rpn/weights.pt")
    with pytest.raises(ValueError, match=r"trunk\.4\.0\.weight is not shared"):
        put_together(
            toy, Artifact(tmp_path / "rpn", "x"), steps.shared_detector, tmp_path / "model"
        )


def put_together(toy: Any, rpn: Artifact, detector: Artifact, folder: Path) -> None:
    assemble(
        Job(folder),
        toy.classes,
        rpn,
        detector,
        "tiny",
        CONFIG.scale,
        CONFIG.rpn,
        CONFIG.proposals,
        CONFIG.detection,
    )


def test_the_second_and_the_third_fit_too(toy: Any, steps: Steps, tmp_path: Path) -> None:
    # As the paper's ablation of one step less: they share as well.
    put_together(toy, steps.shared_rpn, steps.detector, tmp_path)
    assert len(load(tmp_path, "cpu")([image_tensor(toy.test[0])])) == 1


Make = Callable[..., Any]


def test_images_without_objects_or_proposals_stop_nothing(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of(
        [[[5, 6, 25, 30]], [], [[8, 8, 40, 40]]],
        [[1], [], [2]],
        [[], [], []],
        crowd=[[False], [], [True]],
    )
    none = replace(
        CONFIG,
        alternating=replace(
            CONFIG.alternating, proposals=ProposalConfig(None, after=30, least_side=500.0)
        ),
    )
    found = alternate(none, data, RANDOM, Store(tmp_path / "runs", workers=0))
    reader = Proposals(found.proposals.path / "proposals.h5")
    assert [reader.of(record).shape for record in data.train] == [(0, 4)] * 3
    for trained in (found.rpn, found.detector, found.shared_rpn, found.shared_detector):
        assert all(torch.isfinite(value).all() for value in state_of(trained).values())
