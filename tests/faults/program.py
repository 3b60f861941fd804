"""A paper's command as the faults are tried on it: `python -m tests.faults.program rcnn_v1 [options]`.

Trainings leave a checkpoint at every look at the losses, so that there is one to go on from, and shards
are of two images, so that a stage has several; with FAULTS_CLOCK=1 the clock jumps at every look at it,
up to a year either way.
"""

from __future__ import annotations

import os
import random
import sys
import time


def jump() -> None:
    """From now on nobody knows what time it is. The monotonic clock stays, as a system's does."""
    genuine, genuine_ns = time.time, time.time_ns
    year = 365 * 24 * 3600
    time.time = lambda: genuine() + random.uniform(-year, year)
    time.time_ns = lambda: genuine_ns() + random.randint(-year, year) * 10**9


def small_shards() -> list[str]:
    """Of two images, in every module that is loaded and cuts any; their names."""
    packages = ("stages", "rcnn_v1", "spp_net", "fast_rcnn", "faster_rcnn", "mask_rcnn")
    cutting = [
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] in packages and hasattr(module, "SHARD")
    ]
    for name in cutting:
        setattr(sys.modules[name], "SHARD", 2)  # noqa: B010 (mypy knows no such module)
    return cutting


if __name__ == "__main__":
    from stages.threads import wait_briefly

    wait_briefly()
    if os.environ.get("FAULTS_CLOCK"):
        jump()
    from stages.run import main

    def command(arguments: list[str]) -> None:
        from importlib import import_module

        from stages import options
        from stages.store import Store

        def store_of(given: options.Options) -> Store:
            return Store(given.runs / "store", given.device, given.workers, 0.0, given.ranks)

        options.store_of = store_of  # before a paper's command takes it from there
        paper = import_module(f"{arguments[0]}.command")
        import_module(f"{arguments[0]}.pipeline")  # which loads all of its stages
        small_shards()
        paper.command(arguments[1:])

    main(command)
