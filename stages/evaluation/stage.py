"""The evaluation stage: what the stored detections are worth."""

from __future__ import annotations

import json

from stages.data.records import Dataset
from stages.evaluation.detections_io import load_detections, sizes_of
from stages.evaluation.evaluate import evaluate
from stages.evaluation.similar import similar_classes
from stages.store import Artifact, Job, stage


@stage(version=5)
def evaluate_detections(job: Job, data: Dataset, detections: Artifact) -> None:
    """Evaluate each kind of detections on the test split. Writes `<kind>.json` for each."""
    alike = similar_classes(data.classes)
    for path in sorted(detections.path.glob("*.json")):
        if path.name == "manifest.json":
            continue
        found = load_detections(path, data.category_ids, sizes_of(data.test))
        result = evaluate(data.test, found, data.classes, alike=alike)
        (job.folder / path.name).write_text(json.dumps(result, indent=1))
