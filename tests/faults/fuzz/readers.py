"""Every reader of the project that is given files from elsewhere, or finds them after a fault."""

from __future__ import annotations

from tests.faults.fuzz.archives import ARCHIVES
from tests.faults.fuzz.arguments import ARGUMENTS
from tests.faults.fuzz.hdf5 import FEATURES, MAPS, PROPOSALS
from tests.faults.fuzz.images import IMAGES
from tests.faults.fuzz.layouts import COCO, LABELME, VOC, YOLO
from tests.faults.fuzz.models import MODELS
from tests.faults.fuzz.reader import Reader
from tests.faults.fuzz.results import DETECTIONS, MASKS, METRICS_JSON
from tests.faults.fuzz.tensors import CHECKPOINTS, WEIGHTS

READERS: tuple[Reader, ...] = (
    *(VOC, LABELME, COCO, YOLO, MASKS, IMAGES),
    *(PROPOSALS, FEATURES, MAPS),
    *(WEIGHTS, CHECKPOINTS, MODELS),
    *(METRICS_JSON, DETECTIONS, ARGUMENTS, ARCHIVES),
)
