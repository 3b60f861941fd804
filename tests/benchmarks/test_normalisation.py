"""What weights expect of an image goes with them through every paper's run, into its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.detectors import find_runs
from benchmarks.mask_twin import mask_twin_of
from benchmarks.rivals.yolov3.command import yolov3
from benchmarks.twin import twin_of
from fast_rcnn.command import command as fast
from faster_rcnn.command import command as faster
from mask_rcnn.command import command as mask
from rcnn_v1.command import command as rcnn
from spp_net.command import command as spp
from stages.backbones.networks import tiny
from stages.backbones.normalisation import CAFFE

RUNS: dict[str, tuple[Callable[[Sequence[str]], None], tuple[str, ...]]] = {
    "rcnn": (rcnn, ("--fine-tune.sgd.iterations", "2", "--fine-tune.sgd.lr", "1e-6")),
    "spp": (spp, ("--fine-tune.sgd.iterations", "2")),
    "fast": (fast, ()),
    "faster, four steps": (faster, ("--training", "alternating")),
    "faster, joint": (faster, ("--training", "joint")),
    "mask": (mask, ()),
    "yolov3": (yolov3, ()),
}


def first_convolution(part: nn.Module) -> Tensor:
    return next(layer.weight for layer in part.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize(
    "run",
    [
        # Two of them stand for all where time is short.
        pytest.param(run, marks=() if run in ("fast", "faster, joint") else pytest.mark.slow)
        for run in RUNS
    ],
)
def test_a_caffe_network_stays_one(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, more = RUNS[run]
    torch.manual_seed(2)
    network = tiny()
    first = first_convolution(network).detach() / 57  # it will see deviations of 57
    state = {
        key: value for key, value in network.state_dict().items() if key not in ("mean", "std")
    }
    path = tmp_path / "caffe.pth"
    torch.save({**state, "trunk.0.0.weight": first, "normalisation": "caffe"}, path)
    command(
        [
            *("--preset", "micro", "--device", "cpu", "--workers", "0"),
            *("--runs", str(tmp_path / "runs"), "--weights", str(path), *more),
        ]
    )
    assert "caffe" not in capsys.readouterr().err
    (found,) = find_runs(tmp_path / "runs")
    model: Any = found.detector("cpu")
    assert model.backbone.mean.flatten().tolist() == pytest.approx(CAFFE.mean)
    assert model.backbone.std.flatten().tolist() == pytest.approx(CAFFE.std)
    # A grey of the mean colour is nothing to the network, and so is what lies outside an image.
    grey = torch.tensor(CAFFE.mean)[:, None, None].expand(3, 4, 4)
    assert torch.equal(model.backbone.normalise(grey), torch.zeros(3, 4, 4))
    # The first layer is turned round once, and learns nothing or little in so few steps.
    kept = first_convolution(model).detach().float()
    near, apart = ((kept - one).abs().mean() for one in (first.flip(1), first))
    assert 10 * near < apart
    if run == "faster, joint":
        twin = twin_of(model)
        assert twin.transform.image_mean == pytest.approx(CAFFE.mean)
        assert twin.transform.image_std == pytest.approx(CAFFE.std)
    if run == "mask":
        assert mask_twin_of(model).transform.image_mean == pytest.approx(CAFFE.mean)
