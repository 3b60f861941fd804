"""The report of a `make bench`: figures, and the page that shows them all."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.plot import METRICS, plot_speed_against_map
from benchmarks.published import published
from benchmarks.report import pictures
from benchmarks.report.advice import Advice, advise, sentences
from benchmarks.report.commands import command_of
from benchmarks.report.comparison import Comparison
from benchmarks.report.figures import (
    disk,
    mistakes,
    parts,
    precision_recall,
    published_speed,
    recall,
    times,
)
from benchmarks.report.figures.canvas import spelled
from benchmarks.report.machines import elsewhere
from benchmarks.report.page import Picture, Section, page
from stages.writing import replacing

ABOUT = (
    "mAP is PASCAL VOC 2007's, IoU 0.5 at 11 points, in percent, with its 95 % interval from "
    "resampling the test images. Recalls are compared with the 11 points exactly; as VOC's devkit "
    "rounds, 3 of 10 objects found fall short of the fourth point, 0.30000000000000004. COCO AP is "
    "the mean over IoU 0.5 to 0.95. Detectors are compared only on the same data; a difference "
    "counts as one where the interval of the paired difference, over the same resampled images, "
    "leaves out zero.",
    "Seconds are from a photograph's file to boxes, one image at a time, medians on this machine. "
    "Each detector is as good as the schedule it was trained with, which is in its command.",
)


def write_report(comparisons: Sequence[Comparison], folder: Path, command: str) -> Path:
    """Write `speed_map`, `published`, `machines`, each data set's figures in `<slug>/`; and `index.html`.

    Figures are PNG and SVG. `machines` is of other machines' tables, where there are any.

    Args:
        folder: exists.
        command: what was called to time the detectors and to write this.

    Returns:
        the page.
    """
    table = pd.concat([comparison.table for comparison in comparisons], ignore_index=True)
    plot_speed_against_map(table, folder / "speed_map")
    numbers = published()
    published_speed.draw(numbers, folder / "published")
    sections = [_section(one, folder / one.slug, command) for one in comparisons]
    others = elsewhere()
    if len(others):
        plot_speed_against_map(others, folder / "machines")
        sections.append(_machines(others, folder / "machines.png"))
    sections.append(_published(numbers, folder / "published.png"))
    here = table.iloc[0]
    machine = f"{here.device}; PyTorch {here.torch}; commit {here.commit}."
    path = folder / "index.html"
    with replacing(path) as file:
        file.write(page("Detectors compared", [*ABOUT, machine], sections).encode())
    return path


def _section(comparison: Comparison, folder: Path, command: str) -> Section:
    folder.mkdir(exist_ok=True)
    table, entries = comparison.table, comparison.entries
    advice = advise(comparison)
    plot_speed_against_map(table, folder / "speed_map", list(METRICS))
    times.draw(table, folder / "times")
    parts.draw(table, folder / "parts")
    disk.draw(table, folder / "disk")
    drawn = {
        "speed_map": "Accuracy against seconds an image. Filled: photograph to boxes; hollow: "
        "without the proposals' time; bar: 95 % interval.",
        "times": "Training and test time, and how many times faster than R-CNN with the same "
        "network; in brackets what Fast R-CNN's table 4 says of the same system on a K40 with VGG16, "
        "or with AlexNet where ours is on AlexNet.",
        "parts": "Where a detection's time goes.",
        "disk": "What training leaves on the disk.",
    }
    if recall.draw(entries, folder / "recall"):
        drawn["recall"] = "Test objects that some proposal covers, by the number of proposals."
    if precision_recall.draw(comparison, folder / "precision_recall"):
        drawn["precision_recall"] = "Precision against recall by class, boxes, IoU 0.5."
    if mistakes.draw(entries, folder / "mistakes"):
        drawn["mistakes"] = (
            "What the best-scoring detections are, as many as there are objects, and how many "
            "objects were missed at any score."
        )
    images = [
        Picture(path, f"Test image {number}: its objects, and what each detector finds.", True)
        for number, path in enumerate(pictures.draw(comparison, folder), 1)
    ]
    return Section(
        comparison.title,
        sentences(comparison, advice) if advice else ["No detector has an mAP on this data."],
        [
            ("Accuracy, speed and cost.", _readable(table)),
            *([_differences(advice)] if advice and advice.differences else []),
        ],
        [*(Picture(folder / f"{name}.png", says) for name, says in drawn.items()), *images],
        [
            ("Times at test, memory and the figures, of the finished detectors", command),
            *(
                (f"{entry.label}: trained and tested", command_of(entry.run.metrics))
                for entry in entries
            ),
        ],
    )


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: texts."""
    rows = []
    for row in table.to_dict("records"):
        cells = {
            "detector": row["label"],
            "network": row["backbone"],
            "mAP": _with_interval(row, "map"),
            "mAP as the devkit rounds": _two_decimals(row.get("map_devkit", nan)),
            "COCO AP": _with_interval(row, "coco_ap"),
            "masks' COCO AP": _with_interval(row, "mask_coco_ap"),
            "an image": spelled(row["seconds"]),
            "without proposals": spelled(row["seconds_without_proposals"]),
            "images a second": f"{row['images_per_second']:.3g} by {row['best_batch']}",
            "training": spelled(row["train_seconds"]) if row["train_seconds"] > 0 else "–",
            "disk, MiB": f"{row['train_disk_mib']:,.0f}" if row["train_disk_mib"] > 0 else "–",
            "peak memory, MiB": f"{row['peak_memory_mib']:,.0f}",
        }
        if table["peak_cuda_mib"].any():
            cells["of the GPU's, MiB"] = f"{row['peak_cuda_mib']:,.0f}"
        rows.append(cells)
    readable = pd.DataFrame(rows)
    return readable.loc[:, (readable != "–").any()]


def _with_interval(row: dict[Any, Any], name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value != value:
        return "–"
    return f"{value:.1f}" if low != low else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _two_decimals(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _differences(advice: Advice) -> tuple[str, pd.DataFrame]:
    rows = [
        {
            "detector": label,
            "mAP less the best's": f"{100 * d.difference:+.1f}",
            "95 % interval, paired": f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]",
            "": "differs" if d.excludes_zero else "not separated",
        }
        for label, d in sorted(advice.differences.items(), key=lambda item: -item[1].difference)
    ]
    return f"mAP beside the most accurate, {advice.best}.", pd.DataFrame(rows)


def _machines(table: pd.DataFrame, picture: Path) -> Section:
    says = "Accuracy against speed there: a panel for each data set and machine."
    tables = [
        (f"{title}: {device}.", _readable(rows))
        for (title, device), rows in table.groupby(["title", "device"], sort=True)
    ]
    return Section("Measured elsewhere", (), tables, [Picture(picture, says)])


def _published(numbers: pd.DataFrame, picture: Path) -> Section:
    shown = numbers.drop(columns="proposals_timed").assign(
        value=numbers.value.map("{:.1f}".format),
        seconds=[
            "" if s != s else f"{spelled(s)}{'' if timed == 'yes' else ', without proposals'}"
            for s, timed in zip(numbers.seconds, numbers.proposals_timed, strict=True)
        ],
    )
    says = (
        "Accuracy against speed as the papers have them: other machines, other training data. "
        "Filled: photograph to boxes; hollow: without the proposals' time; dashed: no speed was published."
    )
    return Section("As published", (), [("What the papers say.", shown)], [Picture(picture, says)])
