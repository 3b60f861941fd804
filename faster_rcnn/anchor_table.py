"""Table 1: how large the proposals are, on average, that come from each anchor of a position.

k anchors of a position, A of an image, P proposals of an image.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fast_rcnn.config import ScaleConfig
from faster_rcnn.anchors import base_anchors
from faster_rcnn.config import AnchorConfig, Config
from faster_rcnn.detector import load
from faster_rcnn.network import FasterRCNN
from faster_rcnn.proposals import select_proposals
from stages.boxes import clip, decode
from stages.data.images import image_tensor
from stages.data.records import Dataset
from stages.published.figures import Paper
from stages.reading import damage_named
from stages.shards import shards
from stages.store import Artifact, Job, stage
from stages.sweep import sweep
from stages.writing import replacing

SHARD = 16  # images
PAPERS = "ZF"  # the network that the paper has the table of


@stage(version=1, together=True)
def measure_anchors(job: Job, data: Dataset, model: Artifact) -> None:
    """Measure the test split's proposals, those that the finished detector looks at.

    Writes `anchors.csv`, a row for each of the k anchors, in the order of `base_anchors`: `proposals` that
    come from it in all images, their `mean_width` and `mean_height` in pixels of the scaled image.
    """
    faster = load(model.path, job.device)
    every = shards(job.folder / "shards", len(data.test), SHARD, ".npz")
    for shard, images in sweep(
        data.test, every, job.workers, "the anchors' proposals", image_tensor, job.ranks
    ):
        found = [sides_by_anchor(faster, image) for _, image in images]
        with replacing(shard.path) as file:
            anchors, sides = (np.concatenate(part) for part in zip(*found, strict=True))
            np.savez(file, anchors=anchors, sides=sides)
    job.ranks.wait()
    if not job.ranks.leads:
        return
    k = len(faster.rpn.get_buffer("base0"))
    counts, sums = np.zeros(k, np.int64), np.zeros((k, 2))
    for shard in every:
        with damage_named(shard.path), np.load(shard.path) as arrays:
            counts += np.bincount(arrays["anchors"], minlength=k)
            np.add.at(sums, arrays["anchors"], arrays["sides"].astype(np.float64))
    with np.errstate(invalid="ignore"):  # an anchor that nothing came from has no mean
        means = sums / counts[:, None]
    table = pd.DataFrame(
        {"proposals": counts, "mean_width": means[:, 0], "mean_height": means[:, 1]}
    )
    with replacing(job.folder / "anchors.csv") as file:
        file.write(table.to_csv(index=False, float_format="%.3f").encode())
    shutil.rmtree(job.folder / "shards")


@torch.inference_mode()
def sides_by_anchor(faster: FasterRCNN, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of an image's proposals, the best by their scores, each one's anchor and its size.

    Args:
        image: [3, H, W], uint8.

    Returns:
        which of the k anchors, int64 [P]; width and height, float32 [P, 2], in scaled pixels.
    """
    batch, maps = faster.look([image])
    scores, offsets = faster.rpn(maps)
    anchors = faster.rpn.anchors(maps)
    limits = dataclasses.replace(faster.proposals, scores="rpn")
    ((boxes, kept),) = select_proposals(scores, offsets, anchors, batch.sizes, batch.ratios, limits)
    (every,) = anchors  # of the one map
    moved = every if limits.boxes == "none" else decode(every, offsets[0])
    found = origins(boxes, kept, clip(moved, *batch.sizes[0]), scores[0])
    k = len(faster.rpn.get_buffer("base0"))
    return (found % k).cpu().numpy(), (boxes[:, 2:] - boxes[:, :2]).cpu().numpy()


def origins(boxes: Tensor, scores: Tensor, every_box: Tensor, every_score: Tensor) -> Tensor:
    """Which anchor each proposal came from, int64 [P].

    It has the proposal's score; of several that do, the one whose box is nearest.

    Args:
        boxes, scores: the proposals', [P, 4] and [P].
        every_box, every_score: all anchors', moved and cut to the image, [A, 4] and [A].
    """
    away = torch.cdist(boxes, every_box, p=torch.inf)
    return away.masked_fill(scores[:, None] != every_score, torch.inf).argmin(dim=1)


def anchor_table(config: Config, measured: Path, paper: Paper) -> pd.DataFrame:
    """What was measured of each anchor, by size and then from wide to high, as the paper has it.

    Args:
        measured: `measure_anchors`' folder.

    Returns:
        rows of `anchor` ("128², 2:1", width to height), `size`, `ratio` (height over width), `anchor_width`,
        `anchor_height`, `proposals`, `mean_width`, `mean_height`, `paper_width`, `paper_height`. The paper's
        are of the same anchors and scale; where they are not the run's, none.
    """
    own = config.rpn.anchors
    table = pd.read_csv(measured / "anchors.csv")
    base = base_anchors(own.sizes, own.ratios)
    table["ratio"] = np.repeat(own.ratios, len(own.sizes))
    table["size"] = np.tile(own.sizes, len(own.ratios))
    table["anchor_width"] = (base[:, 2] - base[:, 0]).numpy()
    table["anchor_height"] = (base[:, 3] - base[:, 1]).numpy()
    table["anchor"] = [
        f"{size:g}², {shape_of(ratio)}"
        for size, ratio in zip(table["size"], table["ratio"], strict=True)
    ]
    same_scale = config.scale.test == ScaleConfig().test
    theirs = AnchorConfig()
    for side in ("width", "height"):
        table[f"paper_{side}"] = [
            _figure(paper, size, ratio, f"mean_{side}")
            if same_scale and size in theirs.sizes and ratio in theirs.ratios
            else np.nan
            for size, ratio in zip(table["size"], table["ratio"], strict=True)
        ]
    columns = ["anchor", "size", "ratio", "anchor_width", "anchor_height", "proposals"]
    columns += ["mean_width", "mean_height", "paper_width", "paper_height"]
    return table.sort_values(["size", "ratio"], ignore_index=True)[columns]


def write_anchor_table(folder: Path, name: str, config: Config, table: pd.DataFrame) -> str:
    """Write `anchors.csv` and, as Markdown, `anchors.md`; the last as text.

    Args:
        name: of the data, the preset and the network.
        table: see `anchor_table`.
    """
    limits, (shorter,) = config.proposals, config.scale.test
    kept = f"the {limits.after} best of an image after NMS at {limits.nms_iou:g}"
    theirs = bool(table["paper_width"].notna().any())
    lines = [
        f"# The anchors' proposals (table 1): {name}, {config.training} training",
        "",
        f"Mean width × height of the RPN's proposals that come from each anchor, {kept}, cut to the image, "
        f"over the test split, in pixels of the image scaled to a shorter side of {shorter} (at most "
        f"{config.scale.longest} long).",
        "",
        f"| anchor | its width × height | proposals | mean |{f' paper ({PAPERS}) |' if theirs else ''}",
        f"|{'---|' * (4 + theirs)}",
    ]
    for _, row in table.iterrows():
        paper = f" {_sides(row, 'paper_')} |" if theirs else ""
        lines.append(
            f"| {row['anchor']} | {_sides(row, 'anchor_')} | {row['proposals']} "
            f"| {_sides(row, 'mean_')} |{paper}"
        )
    text = "\n".join(lines) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "anchors.csv", index=False, float_format="%.3f")
    with replacing(folder / "anchors.md") as file:
        file.write(text.encode())
    return text


def shape_of(ratio: float) -> str:
    """A ratio of height over width in the paper's words, width to height: 0.5 is 2:1."""
    return f"{1 / ratio:.3g}:1" if ratio < 1 else f"1:{ratio:.3g}"


def _figure(paper: Paper, size: float, ratio: float, metric: str) -> float:
    found = paper.of(f"proposals of anchor {size:g}, {shape_of(ratio)}", PAPERS, metric)
    return np.nan if found is None else found.value


def _sides(row: pd.Series, kind: str) -> str:
    wide, high = row[f"{kind}width"], row[f"{kind}height"]
    return "–" if wide != wide else f"{wide:.0f} × {high:.0f}"
