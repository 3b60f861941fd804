"""Which detections people are shown, and how they lie over each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import shown as module
from benchmarks.detectors import Run
from benchmarks.shown import Shown, detect_in, least_scores, panel, said_of_hidden
from stages.errors import InputError
from stages.pictures import COLOURS
from tests.benchmarks.conftest import CLASSES, Told

PIXELS = np.zeros((90, 120, 3), np.uint8)


def run(**metrics: object) -> Run:
    return Run(Path("runs/pets/faster"), {"classes": CLASSES, **metrics})


def test_least_scores_are_the_runs_own_or_one_for_all() -> None:
    usual = run(usual_scores={"dog": -0.25, "cat": 1.5})
    assert least_scores(usual, None).tolist() == [1.5, -0.25, np.inf]
    assert least_scores(usual, 0.0).tolist() == [0, 0, 0]
    assert least_scores(run(), 0.5).tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(InputError, match=r"^runs/pets/faster/metrics.json: no usual_scores"):
        least_scores(run(), None)


def test_what_reaches_its_class_score_is_shown_best_first() -> None:
    model = Told()  # finds dog 0.5, cat 0.75, dog -1
    found = detect_in(PIXELS, model, np.array([0.75, 0.5, 0.0]))
    assert model.sizes == [(3, 90, 120)]
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == [0.75, 0.5]
    assert np.array_equal(found.boxes, model.boxes[[1, 0]])
    assert found.masks is None
    assert found.hidden == 1
    assert detect_in(PIXELS, model, np.array([0.8, -1.0, 0.0])).scores.tolist() == [0.5, -1]
    nothing = detect_in(PIXELS, model, np.full(3, np.inf))
    assert (len(nothing.boxes), nothing.hidden) == (0, 3)


def test_what_is_hidden_in_a_line() -> None:
    names = ["ant", "bee", "cow", "dog", "emu", "fox"]
    assert said_of_hidden(0, names, np.zeros(6)) == ""
    mend = " (ARGS='--threshold S': all from S on)"
    assert said_of_hidden(1, names, np.zeros(6)) == (
        f"not shown: 1 detection below the class's score{mend}"
    )
    found_none = "without a score (none was found in the test split)"
    assert said_of_hidden(0, names, np.array([0, np.inf, 0, 0, 0, 0])) == (
        f"not shown: anything of 1 class {found_none}: bee{mend}"
    )
    assert said_of_hidden(20, names, np.full(6, np.inf)) == (
        "not shown: 20 detections below the class's score; "
        f"anything of 6 classes {found_none}: ant, bee, cow, dog, emu, ..{mend}"
    )


def test_masks_stay_with_their_boxes() -> None:
    masks = torch.zeros(3, 90, 120, dtype=torch.bool)
    for number in range(3):
        masks[number, number] = True

    def model(images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [{**Told()(images)[0], "masks": masks}]

    found = detect_in(PIXELS, model, np.array([0.0, -9.0, 0.0]))
    assert found.masks is not None
    assert [int(mask.argmax()) // 120 for mask in found.masks] == [1, 0, 2]


@pytest.mark.parametrize(
    ("n", "says"), [(0, "0 detections"), (1, "1 detection"), (2, "2 detections")]
)
def test_their_number_as_people_write_it(n: int, says: str) -> None:
    assert Shown(np.zeros((n, 4)), np.ones(n, int), np.zeros(n), None).counted == says


def test_the_surest_is_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[float]] = []
    monkeypatch.setattr(
        module, "draw_boxes", lambda axes, boxes, labels, classes, scores: drawn.append(scores)
    )
    masks = np.zeros((3, 90, 120), bool)
    masks[:, 10:30, 10:30] = True
    masks[1, 20:] = False  # the surest covers the upper half of the others
    boxes, labels = np.zeros((3, 4)), np.array([1, 2, 3])
    made = panel(PIXELS, "found", boxes, labels, CLASSES, np.array([0.2, 0.9, 0.5]), masks)
    assert made.caption == "found"
    assert made.draw is not None
    made.draw(None)  # type: ignore[arg-type]
    assert [list(scores) for scores in drawn] == [[0.2, 0.5, 0.9]]
    for place, label in ((15, 2), (25, 3)):
        colour = [int(COLOURS[label - 1][i : i + 2], 16) for i in (1, 3, 5)]
        assert np.allclose(made.image[place, 15], 0.55 * np.array(colour), atol=1)
    assert not made.image[30:].any()
