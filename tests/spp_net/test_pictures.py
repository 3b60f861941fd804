"""SPPnet's own picture: a window, its cells, its bins, whatever the image lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcnn_v1.detector import save
from spp_net.network import PyramidNetwork
from spp_net.pictures import draw_pictures, pyramid_of
from stages.evaluation.detections_io import save_detections
from stages.store import Artifact, Job
from tests.spp_net.conftest import PYRAMID, Made
from tests.spp_net.test_detector import DESCRIPTION, regressors, svms

Make = Callable[..., Any]
LEFT, RIGHT = [0, 0, 20, 20], [20, 20, 60, 48]


def network(made: Made) -> PyramidNetwork:
    weights = made.network.path / "weights.pt"
    return PyramidNetwork.load("tiny", weights, "cpu", "float32", PYRAMID, 128)


def test_the_largest_object_and_its_bins(toy_of: Make, made: Made) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[]])
    row = pyramid_of(data.train[0], data.classes, network(made), PYRAMID.scales)
    assert [panel.caption for panel in row.panels][::2] == ["dog", "4x4", "1x1"]
    assert row.panels[1].caption.endswith("at 96")
    # The image, and the map a pixel a cell.
    assert [panel.image.shape for panel in row.panels[:2]] == [(48, 60, 3), (6, 8, 3)]
    assert all(np.array_equal(panel.image, row.panels[1].image) for panel in row.panels[2:])


def test_crowds_are_not_shown(toy_of: Make, made: Made) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[]], crowd=[[False, True]])
    row = pyramid_of(data.train[0], data.classes, network(made), PYRAMID.scales)
    assert row.panels[0].caption == "cat"


@pytest.mark.parametrize("objects", [[], [LEFT], [[3, 3, 4, 4]]])
def test_all_are_drawn(toy_of: Make, made: Made, tmp_path: Path, objects: list[Any]) -> None:
    data = toy_of([objects] * 2, [[1][: len(objects)]] * 2, [[RIGHT]] * 2)
    save_detections(tmp_path / "detections.json", {}, data.category_ids)
    state = network(made).backbone.state_dict()
    save(tmp_path, DESCRIPTION, state, svms(), regressors())
    given = Artifact(tmp_path, "given")
    draw_pictures(Job(tmp_path), data, data.proposals, given, given, None)
    assert (tmp_path / "pyramid.png").stat().st_size > 1000
    assert (tmp_path / "proposals.png").exists()
