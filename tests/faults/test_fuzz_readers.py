"""Broken and hostile files, a few hundred a reader, the same in every run.

`python -m tests.faults.fuzz` tries ten thousand others in processes of their own.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults.fuzz.memory import limited
from tests.faults.fuzz.reader import Case, Reader
from tests.faults.fuzz.readers import READERS


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.slug)
def test_a_file_is_read_or_refused_in_one_line(reader: Reader, tmp_path: Path) -> None:
    read: list[bool] = []
    valid, folder = tmp_path / "valid", tmp_path / "broken"
    for made in (valid, folder):
        made.mkdir()
    for name in set(reader.make(valid)):
        reader.read(valid, name)
    names = reader.make(folder)

    @settings(
        max_examples=reader.quick,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.cases(folder, names))
    def check(case: Case) -> None:
        with limited():
            read.append(reader.accepts(folder, case))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
    assert any(read), "all were refused: the mutations are too coarse"
    assert not all(read), "nothing was refused"
