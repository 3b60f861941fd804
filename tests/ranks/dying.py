"""A training by several ranks, one of which is killed once, as a program for torchrun.

Arguments: the folder; the rank to kill and the iteration whose batch it never makes, or nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from stages.ranks import join, leave
from stages.run import main
from stages.store import Job
from stages.training.image_batches import ImageBatches
from tests.fast_rcnn.test_train import CONFIG
from tests.ranks.trainings import toy, train_fast

FIRST = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def run(arguments: list[str]) -> None:
    folder, dying = Path(arguments[0]), tuple(map(int, arguments[1:]))
    ranks = join("cpu")
    made = ImageBatches.__getitem__

    def batch(self: ImageBatches, iteration: int) -> object:
        if FIRST and (ranks.rank, iteration) == dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return made(self, iteration)

    ImageBatches.__getitem__ = batch  # type: ignore[assignment,method-assign]
    own = folder / f"toy{ranks.rank}-{os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
    data = toy(own)
    (folder / "job").mkdir(exist_ok=True)
    config = replace(CONFIG, sgd=replace(CONFIG.sgd, iterations=30))
    train_fast(Job(folder / "job", checkpoint_seconds=0.0, ranks=ranks), data, config)
    leave()


if __name__ == "__main__":
    main(lambda arguments: run(list(arguments)))
    sys.exit(0)
