"""Are more proposals better? mAP and average recall by their number (Fast R-CNN, section 5.5, figure 3).

The detector is trained again for each number, or sees another number at test alone; and dense boxes are
added to selective search's, take their places one by one, or stand alone, the detector trained on them. The
paper sweeps with selective search's quality mode (`--proposals.mode quality`); its SVMs on dense boxes are
left out, whose features would take more than a terabyte on VOC 2007.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fast_rcnn.config import Config
from fast_rcnn.dense import mix_in_dense, replace_by_dense
from fast_rcnn.pipeline import Trained, assemble_from, detect, train_and_test, train_on
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.data.records import Dataset
from stages.errors import InputError
from stages.options import Options, store_of
from stages.pictures import COLOURS
from stages.proposals.cache import Proposals
from stages.proposals.recall import average_recall, best_overlaps
from stages.published.figures import Figure, Paper, paper_beside
from stages.store import Artifact, Store, describe
from stages.writing import replacing

COUNTS = (100, 200, 500, 1000, 2000, 3000, 5000)
DENSE = (2000, 4000, 6000, 8000, 10_000, 32_000, 45_000)  # the paper's
RETRAINED, FIXED = "retrained", "not retrained"
ADDED, REPLACED, ALONE = "dense boxes added", "replaced by dense boxes", "dense boxes alone"
NOTE = (
    "The paper's figures: VGG_M's, those that section 5.5 names, on VOC 2007: on other images, or with "
    "another network, their order is to be compared, not their values. Every row but those that say "
    '"not retrained" is a detector trained with what it is tested with.'
)


@dataclass(frozen=True)
class Point:
    """A detector with proposals of some kind and number.

    Attributes:
        series: which line of the figure it is on.
        name: of its row.
        detections: its `detections.json`.
        proposals, top: what it was tested with.
        own: whether it is the run's own.
    """

    series: str
    name: str
    detections: Path
    proposals: Artifact
    top: int | None
    paper: Figure | None = None
    own: bool = False


def compare_numbers(
    options: Options, config: Config, counts: Sequence[int], dense: Sequence[int]
) -> None:
    """Run every point, print the tables, leave them and the figure in the runs' folder.

    Args:
        counts: numbers of proposals; dense: of dense boxes added.

    Raises:
        InputError: a number below 1.
    """
    for option, numbers in (("counts", counts), ("dense", dense)):
        if any(number < 1 for number in numbers):
            raise InputError(f"--{option} {min(numbers)}: takes 1 or more")
    store = store_of(options)
    paper = paper_beside("Fast R-CNN", config.backbone.name)

    def run() -> tuple[Dataset, list[Point]]:
        base = train_and_test(config, store)
        swept = sweep_numbers(config, base, counts, store)
        return base.data, [*swept, *mix_dense(config, base, dense, paper, store)]

    data, points = store.again(run)
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    tag = f"-{options.tag}" if options.tag else ""
    folder = options.runs / name / f"ablations-fast-proposals{tag}"
    variants = {p.name: Variant(p.name, p.detections, p.paper) for p in points}
    values, differences = compare(data, list(variants.values()), claims_of(points))
    title = f"Fast R-CNN, how many proposals: {name}"
    text = write_tables(folder, title, NOTE, values, differences)
    table = figure_table(data, points, values)
    table.to_csv(folder / "proposals.csv", index=False, float_format="%.3f")
    draw(table, folder / "proposals.png", title)
    keep_description(folder, describe(config))
    columns = ["series", "proposals", "map", "average_recall"]
    print(f"{text}\n{table[columns].to_string(index=False, float_format='%.1f')}\n{folder}")


def sweep_numbers(
    config: Config, base: Trained, counts: Sequence[int], store: Store
) -> list[Point]:
    """Selective search's best, more and more of them, as far as there are any: both lines of the figure.

    The run's own number is on both.
    """
    most = most_of(base)
    own = most if config.top is None else min(config.top, most)
    fewer = {count for count in counts if count < most}
    wanted = fewer | {own} | ({most} if max(counts, default=0) >= most else set())
    points = []
    for count in sorted(wanted):
        if count == own:
            found, name = base.detections.path, f"{count} proposals: the run's own"
            points += [
                Point(series, name, found / "detections.json", base.proposals, count, own=True)
                for series in (FIXED, RETRAINED)
            ]
            continue
        changed = dataclasses.replace(config, top=count)
        model = assemble_from(changed, base.data, base.trained, store)
        fixed = store.run(detect, base.data, base.proposals, model)
        again = train_and_test(changed, store).detections
        points += [
            Point(series, f"{count} proposals, {series}", found, base.proposals, count)
            for series, found in (
                (FIXED, fixed.path / "detections.json"),
                (RETRAINED, again.path / "detections.json"),
            )
        ]
    return points


def mix_dense(
    config: Config, base: Trained, dense: Sequence[int], paper: Paper, store: Store
) -> list[Point]:
    """Dense boxes in selective search's place, beside it and without it, the detector retrained."""
    searched, top = (base.data, base.proposals), config.top
    everything = dataclasses.replace(config, top=None)

    def point(series: str, name: str, proposals: Artifact, theirs: Figure | None) -> Point:
        trained = train_on(everything, base.data, proposals, store)
        model = assemble_from(everything, base.data, trained, store)
        found = store.run(detect, base.data, proposals, model).path / "detections.json"
        return Point(series, name, found, proposals, None, theirs)

    def of(row: str) -> Figure | None:
        return paper.of(row, "VGG_M")

    closest = store.run(replace_by_dense, *searched, top)
    each = of("each proposal replaced by its closest dense box")
    points = [point(REPLACED, "each proposal replaced by its closest dense box", closest, each)]
    for count in sorted(set(dense)):
        mixed = store.run(mix_in_dense, *searched, top, count)
        theirs = of("45k random dense boxes added") if count == DENSE[-1] else None
        points.append(point(ADDED, f"{count} dense boxes added", mixed, theirs))
    grid = store.run(mix_in_dense, *searched, 0, None)
    points.append(point(ALONE, "dense boxes alone", grid, of("45k dense boxes alone")))
    return points


def most_of(base: Trained) -> int:
    """The most proposals that an image has."""
    reader = Proposals(base.proposals.path / "proposals.h5")
    return max(len(reader.of(record)) for record in [*base.data.train, *base.data.test])


def claims_of(points: Sequence[Point]) -> list[Claim]:
    """What section 5.5 says: dense boxes do worse than selective search's own, however they come in."""
    own = next(point.name for point in points if point.own)
    dense = (REPLACED, ADDED, ALONE)
    return [Claim(own, point.name) for point in points if point.series in dense]


def figure_table(data: Dataset, points: Sequence[Point], values: pd.DataFrame) -> pd.DataFrame:
    """The figure's points.

    Returns:
        rows of `series`, `variant`, `proposals` (of a test image, on average), `map`, `low`, `high`,
        `average_recall` (of their proposals) and `paper_map`, in per cent.
    """
    by_name = values.set_index("variant")
    recalls: dict[tuple[str, int | None], tuple[float, float]] = {}
    rows = []
    for point in points:
        key = point.proposals.fingerprint, point.top
        if key not in recalls:
            reader = Proposals(point.proposals.path / "proposals.h5")
            number = float(np.mean([len(reader.of(record, point.top)) for record in data.test]))
            recalls[key] = number, average_recall(best_overlaps(data.test, reader, point.top))
        number, recall = recalls[key]
        found = by_name.loc[point.name]
        rows.append(
            {
                "series": point.series,
                "variant": point.name,
                "proposals": number,
                **{column: found[column] for column in ("map", "low", "high")},
                "average_recall": recall,
                "paper_map": found["paper_map"],
            }
        )
    return pd.DataFrame(rows)


LINES = {
    # colour, marker, line
    RETRAINED: (COLOURS[4], "o", "-"),
    FIXED: (COLOURS[1], "s", "--"),
    ADDED: (COLOURS[2], "^", "-"),
    REPLACED: (COLOURS[6], "v", ""),
    ALONE: ("black", "D", ""),
}


def draw(table: pd.DataFrame, path: Path, title: str) -> None:
    """mAP by the number of proposals, with its intervals, and selective search's average recall, as PNG."""
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(7.5, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots()
    for series, (colour, marker, line) in LINES.items():
        some = table[table["series"] == series].sort_values("proposals")
        if some.empty:
            continue
        errors = np.abs(some[["low", "high"]].to_numpy().T - some["map"].to_numpy())
        axes.errorbar(
            some["proposals"],
            some["map"],
            yerr=errors,
            color=colour,
            marker=marker,
            ls=line,
            ms=5,
            lw=1.4,
            elinewidth=0.6,
            capsize=2,
            label=f"mAP, {series}",
        )
    axes.set_xscale("log")
    axes.set_xlabel("proposals an image (log; of the test images, on average)")
    axes.set_ylabel("mAP (VOC07), %; bars: 95 % intervals")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    swept = table[table["series"] == FIXED].sort_values("proposals")
    right = axes.twinx()
    right.plot(
        swept["proposals"],
        swept["average_recall"],
        color=COLOURS[5],
        marker=".",
        lw=1.2,
        label="average recall, selective search",
    )
    right.set_ylim(0, 100)
    right.set_ylabel("average recall, IoU 0.5 to 1, %", color=COLOURS[5])
    right.tick_params(axis="y", colors=COLOURS[5])
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)
