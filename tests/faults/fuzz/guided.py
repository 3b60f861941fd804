"""One reader's cases, bred by atheris: it keeps what leads to lines of code that nothing led to before.

`python -m tests.faults.fuzz.guided <reader> <cases> <seed> <folder>`; called by `tests.faults.fuzz
--guided`. It begins with the reader's valid files and some of hypothesis' cases of them. What is in C is
not watched, but what it makes of a file decides where the project's own code goes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from hypothesis import given, seed, settings

from tests.faults.fuzz.mutate import WORDS

WATCHED = [
    *("stages", "benchmarks", "rcnn_v1", "spp_net", "fast_rcnn", "faster_rcnn", "mask_rcnn"),
    *("xml", "defusedxml", "yaml", "json", "zipfile", "tarfile"),
]
# Importing is what makes them watched.
with atheris.instrument_imports(include=WATCHED):
    from tests.faults.fuzz import readers  # noqa: F401  # `main` asks for them
    from tests.faults.fuzz.child import GENERATED, Trying, main
    from tests.faults.fuzz.reader import Case, Reader

FIRST = 200  # of hypothesis' cases
LONGEST = 2**16  # bytes of a case, or twice the largest valid file


def run(reader: Reader, cases: int, first: int, folder: Path) -> None:
    """Try so many; ends the process. A case is a byte, which of the files, and what it now holds."""
    trying = Trying(reader, folder)
    names = sorted(set(reader.make(trying.inside)))
    whole = [Case(name, (trying.inside / name).read_bytes()) for name in names]
    begin_with = list(whole)

    @seed(first)
    @settings(GENERATED, max_examples=FIRST)
    @given(reader.cases(trying.inside, names))
    def collect(case: Case) -> None:
        begin_with.append(case)

    collect()
    # What is wrong on purpose may be in files beside these.
    names = sorted({case.name for case in begin_with})
    assert len(names) < 256
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, case in enumerate(begin_with):
        which = names.index(case.name)
        (corpus / f"{number:04d}").write_bytes(bytes([which]) + case.content)
    words = folder / "words.txt"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS if 0 < len(word) <= 64))

    def try_one(data: bytes) -> None:
        trying(Case(names[next(iter(data), 0) % len(names)], data[1:]))

    # Hangs and memory are watched by `Trying` and by the parent, as they are of hypothesis' cases.
    options = {
        "runs": cases,
        "seed": first + 1,  # 0 is by chance
        "max_len": max(LONGEST, *(2 * len(case.content) for case in whole)),
        "dict": words,
        "timeout": 3600,
        "rss_limit_mb": 0,
        "artifact_prefix": f"{folder}/",
    }
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{k}={v}" for k, v in options.items())], try_one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    main(run)
