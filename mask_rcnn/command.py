"""`python -m mask_rcnn [ablations]`: run, then leave what people look at in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence

from mask_rcnn.config import PRESETS, PUBLISHED, Config
from stages.data.load import load_data
from stages.options import parse, store_of
from stages.run_folder import RunFolder


def command(arguments: Sequence[str]) -> None:
    """Parse, run, report; a run that is finished already is only reported again."""
    if arguments[:1] == ["ablations"]:
        from mask_rcnn.ablations import ablate

        ablate(arguments[1:])
        return
    options, config = parse("mask_rcnn", Config, PRESETS, arguments)
    if config.backbone.weights == PUBLISHED:
        from mask_rcnn.published import take_published

        print(take_published(options, config))
        return
    store = store_of(options)
    data = load_data(config.data, store)
    folder = RunFolder(options, "mask", data, config.backbone.name, config)
    if not folder.is_finished(store):
        # Loading torchvision takes seconds that a finished run need not wait for.
        from mask_rcnn.pipeline import report, run

        finished = store.again(lambda: run(config, store))
        folder.write(*report(config, finished, store.used))
    print(folder.summary())
