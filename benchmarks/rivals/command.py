"""`make rival`: a detector of torchvision's on the same data, beside which ours are to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rivals.config import PRESETS, Config, check
from benchmarks.rivals.detector import PAPERS
from benchmarks.rivals.pipeline import report, run
from stages.data.load import load_data
from stages.options import parse, store_of
from stages.run_folder import RunFolder


def rival(arguments: Sequence[str]) -> None:
    """Parse, run, report; a run that is finished already is only reported again."""
    options, config = parse("benchmarks rival", Config, PRESETS, arguments)
    check(config)
    store = store_of(options)
    data = load_data(config.data, store)
    folder = RunFolder(options, PAPERS[config.kind], data, config.backbone.name, config)
    if not folder.is_finished(store):
        finished = store.again(lambda: run(config, store))
        folder.write(*report(config, finished, store.used))
    print(folder.summary())
