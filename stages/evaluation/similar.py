"""Which classes are similar, for Hoiem et al.'s kinds of mistakes: of VOC's twenty and of COCO's eighty.

Of other classes nobody has said it; none of theirs are.
"""

from __future__ import annotations

from collections.abc import Sequence

# Hoiem, Chodpathumwan, Dai, Diagnosing Error in Object Detectors, ECCV 2012, section 2.1: "all
# vehicles", "all animals including person", and two more.
VOC = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
    ("bottle",),
    ("pottedplant",),
    ("tvmonitor",),
)

# COCO's supercategories, as `instances_val2017.json` has them.
COCO = (
    ("person",),
    ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    ("traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    ("backpack", "umbrella", "handbag", "tie", "suitcase"),
    (
        *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat"),
        *("baseball glove", "skateboard", "surfboard", "tennis racket"),
    ),
    ("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    (
        *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza"),
        *("donut", "cake"),
    ),
    ("chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    ("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    ("microwave", "oven", "toaster", "sink", "refrigerator"),
    ("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)


def similar_classes(classes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Groups of labels, ascending, for `find_mistakes`' `alike`.

    Args:
        classes: `classes[label - 1]` is the name.

    Returns:
        VOC's or COCO's groups of two and more where `classes` are exactly theirs, in any order; else
        none: a chair among street furniture is not VOC's.
    """
    for groups in (VOC, COCO):
        if set(classes) == {name for group in groups for name in group}:
            return tuple(
                tuple(sorted(classes.index(name) + 1 for name in group))
                for group in groups
                if len(group) > 1
            )
    return ()
