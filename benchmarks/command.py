"""`python -m benchmarks [speed|peers|rival|yolov3|paired|detect|compare]`: the harness's commands.

Each is imported when it is called: what one of them needs the others need not wait for.
"""

from __future__ import annotations

from collections.abc import Sequence


def command(arguments: Sequence[str]) -> None:
    """`make bench`, or what the first argument names, given the others."""
    name, rest = next(iter(arguments), ""), arguments[1:]
    if name == "detect":
        from benchmarks.detect import detect

        detect(rest)
    elif name == "compare":
        from benchmarks.compare_photos import compare_photos

        compare_photos(rest)
    elif name == "paired":
        from benchmarks.paired import paired

        paired(rest)
    elif name == "speed":
        from benchmarks.speed import speed

        speed(rest)
    elif name == "peers":
        from benchmarks.peers import peers

        peers(rest)
    elif name == "rival":
        from benchmarks.rivals.command import rival

        rival(rest)
    elif name == "yolov3":
        from benchmarks.rivals.yolov3.command import yolov3

        yolov3(rest)
    else:
        from benchmarks.bench import bench

        bench(arguments)
