"""`make mask WEIGHTS=torchvision-coco`: torchvision's published COCO detector, as one of ours."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.models import detection as zoo

from mask_rcnn.config import PRESETS, PUBLISHED, Config
from mask_rcnn.detector import load, save
from mask_rcnn.rle import encode
from mask_rcnn.torchvision_weights import coco_classes, convert, describe
from stages.backbones.weights import Weights, download, load_state, of_file
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.data.some_classes import SomeClasses
from stages.detect import Detection, detect_split
from stages.device import DType
from stages.errors import InputError, one_line
from stages.evaluation.stage import evaluate_detections
from stages.options import Options, resolve_dtypes, store_of
from stages.report import metrics_of, result_line, stage_rows, stage_table
from stages.run_folder import RunFolder
from stages.store import Artifact, Job, stage

USUAL_SCORE = 0.5  # below which torchvision's own examples show nothing
# VOC's names of COCO's classes, where they are not the same.
VOC_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
EPS = 0.0  # of the published weights' batch norms, which torchvision overwrites with 0


@dataclass(frozen=True)
class _NoData:
    """In the place of a data set, where none is asked for."""

    name: str = "published"
    fingerprint: str = "none"


def take_published(options: Options, config: Config) -> str:
    """Leave the detector in the runs' folder; measured on the data, if any but the default is given.

    Its classes are all of COCO's. It is measured on those that the data has too, by the same name or
    VOC's; the data's others are named on stderr. Returns the summary.

    Raises:
        InputError: the download failed, the data has no class of COCO's, or what the published detector
            fixes is given otherwise.
    """
    _check(config, resolve_dtypes(PRESETS[options.preset], options.device))
    store = store_of(options)
    masks = config.network.mask.branch != "none"
    measured = config.data.name != "shapes"
    data = of_coco(load_data(config.data, store)) if measured else None
    published = zoo.MaskRCNN_ResNet50_FPN_Weights if masks else zoo.FasterRCNN_ResNet50_FPN_Weights
    weights = of_file(download(published.COCO_V1.url))
    folder = RunFolder(options, "mask", data or _NoData(), "resnet50", config)  # type: ignore[arg-type]
    model = store.run(import_published, weights, masks, config.detection.dtype)
    if data is None:
        stages = stage_rows(store.used)
        metrics: dict[str, Any] = {"paper": "mask", "backbone": "resnet50", "stages": stages}
        lines, files = [stage_table(stages)], {"model": model.path}
    else:
        detections = store.run(detect_by_name, data, model)
        evaluation = store.run(evaluate_detections, data, detections)
        found = detections.path / "detections.json"
        evaluations = {"result": evaluation.path / "detections.json"}
        metrics = metrics_of(
            "mask", "resnet50", data, evaluations, found, None, (model,), store.used
        )
        result = metrics["result"]
        lines = [stage_table(metrics["stages"]), result_line("boxes", result)]
        if "masks" in result:
            lines.append(result_line("masks", {**result["masks"], "images": result["images"]}))
        files = {"model": model.path, "detections.json": found}
    classes = coco_classes()
    usual = dict.fromkeys(classes, USUAL_SCORE)
    folder.write({**metrics, "classes": classes, "usual_scores": usual}, "\n".join(lines), files)
    return folder.summary()


def _check(config: Config, preset: Config) -> None:
    """Raises InputError for an option that would be ignored."""
    mask = dataclasses.replace(preset.network.mask, branch=config.network.mask.branch)
    detection = dataclasses.replace(preset.detection, dtype=config.detection.dtype)
    name = config.backbone.name
    backbone = dataclasses.replace(
        preset.backbone,
        weights=config.backbone.weights,
        name=name
        if name == "resnet50"
        else preset.backbone.name,  # which it is of, whoever says so
    )
    chosen = dataclasses.replace(
        preset,
        data=config.data,
        backbone=backbone,
        network=dataclasses.replace(preset.network, mask=mask),
        detection=detection,
    )
    for field in dataclasses.fields(config):
        if getattr(config, field.name) != getattr(chosen, field.name):
            raise InputError(
                f"WEIGHTS={PUBLISHED}: is trained already, so no --{field.name}.. applies "
                "but --network.mask.branch and --detection.dtype"
            )


@stage(version=1)
def import_published(job: Job, weights: Weights, masks: bool, dtype: DType) -> None:
    """Write torchvision's COCO detector as a model that `load` reads."""
    assert weights.path is not None
    state = convert(load_state(weights.path), weights.path, EPS)
    save(job.folder, describe(coco_classes(), masks, dtype), state)


def of_coco(data: Dataset) -> Dataset:
    """`data`, of the classes that COCO has too. What it has besides is named on stderr.

    Raises:
        InputError: it has no class of COCO's.
    """
    known = coco_classes()
    others = [name for name in data.classes if _in_coco(name) not in known]
    if not others:
        return data
    common = [name for name in data.classes if name not in others]
    if not common:
        raise InputError(f"{data.name}: none of its classes is one of COCO's by name")
    print(
        f"{data.name}: measured on {len(common)} of its {len(data.classes)} classes, "
        f"COCO has none called {one_line(', '.join(others))}",
        file=sys.stderr,
    )
    return SomeClasses(data, common)


def _in_coco(name: str) -> str:
    return VOC_NAMES.get(name, name)


@stage(version=2, together=True)
def detect_by_name(job: Job, data: Dataset, model: Artifact) -> None:
    """Detect in the test split the data's classes, all of which are COCO's; see `of_coco`."""
    mask_rcnn = load(model.path, job.device)
    labels = np.zeros(len(mask_rcnn.classes) + 1, np.int64)
    for label, name in enumerate(data.classes, start=1):
        labels[mask_rcnn.classes.index(_in_coco(name)) + 1] = label

    def detect_one(image: Tensor, _: Record) -> dict[str, Detection]:
        (found,) = mask_rcnn([image])
        arrays = {key: found[key].cpu().numpy() for key in ("boxes", "labels", "scores")}
        if "masks" in found:
            arrays["segmentation"] = encode(found["masks"])
        arrays["labels"] = labels[arrays["labels"]]
        known = arrays["labels"] > 0
        return {"detections": {key: values[known] for key, values in arrays.items()}}

    detect_split(job, data, detect_one)
