"""The papers' own speeds, on an Nvidia K40 (Fast R-CNN, table 4, section 2.3 and figure 2).

Its S is CaffeNet, here AlexNet; its L is VGG16; its SPPnet has five scales. Proposals are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A system as its paper, or Fast R-CNN's, timed it.

    Attributes:
        test: seconds an image; train: hours on VOC 2007; None: not given.
        test_gain, train_gain: how many times faster than R-CNN with the same network, as printed there.
    """

    test: float
    test_gain: float
    train: float | None
    train_gain: float | None


TABLE_4 = {
    ("alexnet", "R-CNN"): Paper(9.8, 1.0, 22.0, 1.0),
    ("alexnet", "Fast R-CNN"): Paper(0.10, 98.0, 1.2, 18.3),
    ("alexnet", "Fast R-CNN + SVD"): Paper(0.06, 169.0, None, None),
    ("vgg16", "R-CNN"): Paper(47.0, 1.0, 84.0, 1.0),
    ("vgg16", "SPPnet, 5 scales"): Paper(2.3, 20.0, 25.0, 3.4),
    ("vgg16", "Fast R-CNN"): Paper(0.32, 146.0, 9.5, 8.8),
    ("vgg16", "Fast R-CNN + SVD"): Paper(0.22, 213.0, None, None),
}

# Section 2.3: "roughly 64x faster than sampling one RoI from 128 different images".
IMAGE_CENTRIC_GAIN = 64.0

# Figure 2: of a detection, how much is in fc6 and fc7, in percent.
FC_SHARE = {
    ("vgg16", "Fast R-CNN"): 38.7 + 6.2,
    ("vgg16", "Fast R-CNN + SVD"): 17.5 + 1.7,
}
