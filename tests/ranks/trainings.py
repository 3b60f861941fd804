"""A step of every paper's training on the toy data set, as a program that torchrun starts too.

A step at rate 1 without momentum and decay moves each parameter by its gradient, so the weights that
are left tell the gradients.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fast_rcnn.config import LossConfig, TrainConfig
from fast_rcnn.train import train_detector
from faster_rcnn.train import train_jointly, train_rpn
from mask_rcnn.train import train_network
from rcnn_v1.config import FineTuneConfig
from rcnn_v1.fine_tune import fine_tune
from spp_net import fine_tune as spp
from spp_net.config import FineTuneConfig as SPPConfig
from spp_net.maps import cache_mirrored_maps
from spp_net.network import add_pyramid
from stages.backbones.weights import Weights
from stages.ranks import Ranks, join, leave
from stages.store import Artifact, Job
from stages.training.sgd import SGDConfig
from tests.conftest import make_toy, random_box
from tests.fast_rcnn.test_train import SAMPLING
from tests.faster_rcnn.test_train import JOINT, RPN, TRAIN
from tests.mask_rcnn.conftest import SMALL, with_masks
from tests.mask_rcnn.test_train import JOINT as MASK_JOINT
from tests.spp_net.conftest import PYRAMID, make_maps

SGD = SGDConfig(lr=1.0, iterations=1, momentum=0, weight_decay=0, dtype="float32", seed=4)
STEP = replace(TRAIN, sgd=SGD)
RANDOM = Weights(None, "random")
# Images of one shape at one scale: a step's frame, and so what lies beyond an image's edge, is the
# same for each rank.
SCALES, LONGEST = (96,), 200
STAGES = ("rcnn", "spp", "fast", "rpn", "joint", "mask")


def toy(folder: Path) -> Any:
    """Eight images of unequal numbers of objects, one of them a crowd."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    objects = [[random_box(rng) for _ in range(1 + n % 4)] for n in range(8)]
    labels = [rng.integers(1, 3, len(boxes)).tolist() for boxes in objects]
    near = [[(np.array(box) + rng.normal(0, 1.5, 4)).clip(0, 48) for box in 3 * b] for b in objects]
    far = [[random_box(rng) for _ in range(8)] for _ in objects]
    proposals = [[*map(list, a), *b] for a, b in zip(near, far, strict=True)]
    crowd = [[n == 3] + [False] * (len(boxes) - 1) for n, boxes in enumerate(objects)]
    return make_toy(folder, objects, labels, proposals, crowd)


def train_fast(job: Job, data: Any, config: TrainConfig) -> None:
    """Fast R-CNN on the toy's own proposals."""
    train_detector(
        job,
        data,
        data.proposals,
        RANDOM,
        "tiny",
        None,
        SCALES,
        LONGEST,
        SAMPLING,
        LossConfig(),
        config,
    )


def train_all(folder: Path, ranks: Ranks) -> None:
    """Leave `<stage>/weights.pt` of each of `STAGES`."""
    data = toy(folder / f"toy{ranks.rank}")  # each rank's own copy
    jobs = {}
    for name in STAGES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        jobs[name] = Job(folder / name, ranks=ranks)
    some = {"positives": 6, "backgrounds": 10}
    fine_tune(
        jobs["rcnn"],
        data,
        data.proposals,
        RANDOM,
        "tiny",
        None,
        8.0,
        FineTuneConfig(sgd=SGD, new_layer_factor=1, **some),
    )
    # What the step starts from is every rank's own, too.
    own = folder / f"spp{ranks.rank}"
    maps = make_maps(own, data)
    mirrored = make_maps(own / "mirrored", data, stage=cache_mirrored_maps)
    add_pyramid(Job(own), RANDOM, "tiny", PYRAMID.levels)
    spp.fine_tune(
        jobs["spp"],
        data,
        data.proposals,
        maps,
        mirrored,
        Artifact(own, "network"),
        "tiny",
        None,
        PYRAMID.levels,
        SPPConfig(sgd=SGD, new_layer_factor=1, **some),
    )
    train_fast(jobs["fast"], data, STEP)
    train_rpn(jobs["rpn"], data, RANDOM, "tiny", SCALES, LONGEST, RPN, 2, STEP)
    joint = replace(JOINT, train=STEP)
    train_jointly(jobs["joint"], data, RANDOM, "tiny", SCALES, LONGEST, RPN, LossConfig(), joint)
    masks = replace(MASK_JOINT, train=STEP)
    train_network(
        jobs["mask"],
        with_masks(data),
        RANDOM,
        "tiny",
        SCALES,
        LONGEST,
        SMALL.network,
        SMALL.rpn,
        LossConfig(),
        masks,
    )


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), join("cpu"))
    leave()
