"""The fine-tuned softmax as a detector: its probabilities are the network's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnn_v1.config import DetectionConfig, FineTuneConfig
from rcnn_v1.detector import Description, load, save
from rcnn_v1.fine_tune import fine_tune
from rcnn_v1.softmax import detect_by_softmax, load_softmax, probabilities
from rcnn_v1.warp import crop_windows
from stages.backbones.classifier import Classifier
from stages.backbones.weights import Weights, build_backbone, load_state
from stages.data.images import image_tensor
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections, sizes_of
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.store import Artifact, Job
from stages.suppress import suppress
from stages.training.sgd import SGDConfig

CONTEXT = 16 / 227
TUNE = FineTuneConfig(
    sgd=SGDConfig(lr=0.05, iterations=4, dtype="float32"), positives=6, backgrounds=10
)


@pytest.fixture(scope="module")
def tuned(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tuned")
    fine_tune(Job(folder), toy, toy.proposals, Weights(None, "random"), "tiny", None, CONTEXT, TUNE)
    return Artifact(folder, "tuned")


@pytest.fixture(scope="module")
def model(toy: Any, tuned: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An R-CNN on that network, whose SVMs and regressors would show if they were asked."""
    folder = tmp_path_factory.mktemp("model")
    k = len(toy.classes)
    description = Description(
        "rcnn",
        "tiny",
        toy.classes,
        "fc6",
        "float32",
        5,
        SelectiveSearchConfig(),
        DetectionConfig(batch=2),
        context=CONTEXT,
    )
    svms = {"weights": np.full((k, 256), 1e3), "bias": np.full(k, 1e3), "scale": np.array(1.0)}
    regressors = {"weights": np.full((k, 4, 128 * 16), 10.0), "bias": np.full((k, 4), 10.0)}
    save(folder, description, load_state(tuned.path / "weights.pt"), svms, regressors)
    return Artifact(folder, "model")


def own_scores(toy: Any, tuned: Artifact, record: Any, boxes: np.ndarray) -> torch.Tensor:
    """By the classifier that was fine-tuned, put together again: [R, K]."""
    backbone = build_backbone("tiny", Weights(tuned.path / "weights.pt", ""))
    classifier = Classifier(backbone, len(toy.classes) + 1).eval()
    classifier.scores.load_state_dict(load_state(tuned.path / "softmax.pt"))
    image = backbone.normalise(image_tensor(record))
    crops = crop_windows(image, torch.from_numpy(boxes), backbone.crop_size, CONTEXT)
    with torch.no_grad():
        return classifier(crops).softmax(dim=1)[:, 1:]


def test_probabilities_are_the_fine_tuned_classifiers(
    toy: Any, tuned: Artifact, model: Artifact
) -> None:
    rcnn = load(model.path, "cpu")
    layer = load_softmax(tuned, rcnn)
    record = toy.train[0]
    boxes = toy.reader.of(record)
    with torch.inference_mode():
        found = probabilities(rcnn, layer, image_tensor(record), torch.from_numpy(boxes))
    torch.testing.assert_close(found, own_scores(toy, tuned, record, boxes), atol=1e-5, rtol=1e-4)
    assert found.shape == (len(boxes), len(toy.classes))
    # They learnt something: with the layer as it began all would be alike.
    assert float(found.std()) > 1e-4
    with torch.inference_mode():
        none = probabilities(rcnn, layer, image_tensor(record), torch.zeros(0, 4))
    assert none.shape == (0, len(toy.classes))


def test_detections_are_windows_suppressed(
    toy: Any, tuned: Artifact, model: Artifact, tmp_path: Path
) -> None:
    detect_by_softmax(Job(tmp_path), toy, toy.proposals, model, tuned)
    found = load_detections(tmp_path / "detections.json", toy.category_ids, sizes_of(toy.test))
    assert len(toy.test) > 0
    for record in toy.test:
        boxes = toy.reader.of(record, 5)  # the detector's best five
        scores = own_scores(toy, tuned, record, boxes)
        still = torch.from_numpy(boxes)[:, None].expand(-1, len(toy.classes), 4)
        if len(boxes) == 0:
            assert record.image_id not in found
            continue
        expected = suppress(scores, still, 100, 0.3)
        mine = found[record.image_id]
        np.testing.assert_allclose(mine["scores"], expected["scores"], atol=1e-5)
        np.testing.assert_allclose(mine["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_array_equal(mine["labels"], expected["labels"])


def test_a_layer_of_other_classes_does_not_fit(
    tuned: Artifact, model: Artifact, tmp_path: Path
) -> None:
    state = load_state(tuned.path / "softmax.pt")
    torch.save({name: value[:2] for name, value in state.items()}, tmp_path / "softmax.pt")
    with pytest.raises(InputError, match=r"softmax.pt: does not fit Linear: shape weight"):
        load_softmax(Artifact(tmp_path, "other"), load(model.path, "cpu"))
