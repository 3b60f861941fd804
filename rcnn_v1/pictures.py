"""R-CNN in pictures: what is proposed, what the network sees, what is hard, what comes out and errs."""

from __future__ import annotations

from rcnn_v1.hard_negatives import HardNegatives
from rcnn_v1.window_pictures import hardest_negatives, training_crops
from stages.data.records import Dataset
from stages.evaluation.gallery import commonest, of_how_many
from stages.evaluation.result_pictures import SMALL, draw_results
from stages.evaluation.threshold import objects_of
from stages.proposals.cache import Proposals
from stages.sheet import sheet
from stages.store import Artifact, Job, stage


@stage(version=4)
def draw_pictures(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    hard: Artifact,
    detections: Artifact,
    side: int,
    context: float,
    top: int | None,
) -> None:
    """Write a PNG of each of the paper's steps, and of what the detections are worth.

    `crops.png` and `hardest_negatives.png` are R-CNN's own, the others are `draw_results`'.

    Args:
        hard: of `find_hard_negatives`.
        side, context: of the warped windows, see `crop_windows`.
        top: proposals an image that the detector sees.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    trained = commonest(objects_of(data.train, len(data.classes)))
    some_of_trained = of_how_many(len(trained), len(data.classes))

    draw_results(job.folder, data, reader, detections.path / "detections.json", top)
    sheet(
        job.folder / "crops.png",
        "Windows warped with their context, as the network sees them (a thin line where each window ends)",
        training_crops(data, reader, side, context),
        SMALL,
    )
    sheet(
        job.folder / "hardest_negatives.png",
        "The hardest negatives: training windows that are not the class, but score highest for it;\n"
        f"below the score, what they are on{some_of_trained}",
        hardest_negatives(data, HardNegatives.load(hard.path), trained, side, context),
        SMALL,
    )
