"""`python -m rcnn_v1 [ablations]`: run, then leave what people look at in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence

from rcnn_v1.config import PRESETS, Config
from stages.data.load import load_data
from stages.options import parse, store_of
from stages.run_folder import RunFolder


def command(arguments: Sequence[str]) -> None:
    """Parse, run, report; a run that is finished already is only reported again."""
    if arguments[:1] == ["ablations"]:
        from rcnn_v1.ablations import ablate

        ablate(arguments[1:])
        return
    options, config = parse("rcnn_v1", Config, PRESETS, arguments)
    store = store_of(options)
    data = load_data(config.data, store)
    folder = RunFolder(options, "rcnn", data, config.backbone.name, config)
    if not folder.is_finished(store):
        # Loading torchvision and scikit-learn takes seconds that a finished run need not wait for.
        from rcnn_v1.pipeline import run
        from stages.report import report

        finished = store.again(lambda: run(config, store))
        folder.write(*report("rcnn", config.backbone.name, finished, store.used))
    print(folder.summary())
