"""`make yolov3`: YOLOv3 on the same data and network, beside which our papers are to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rivals.yolov3.config import PRESETS, Config, check
from benchmarks.rivals.yolov3.detector import YOLOV3
from benchmarks.rivals.yolov3.pipeline import report, run
from stages.data.load import load_data
from stages.options import parse, store_of
from stages.run_folder import RunFolder


def yolov3(arguments: Sequence[str]) -> None:
    """Parse, run, report; a run that is finished already is only reported again."""
    options, config = parse("benchmarks yolov3", Config, PRESETS, arguments)
    check(config)
    store = store_of(options)
    data = load_data(config.data, store)
    folder = RunFolder(options, YOLOV3, data, config.backbone.name, config)
    if not folder.is_finished(store):
        finished = store.again(lambda: run(config, store))
        folder.write(*report(config, finished, store.used))
    print(folder.summary())
