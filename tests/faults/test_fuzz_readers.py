"""Broken and hostile files, a few hundred a reader, the same in every run.

`python -m tests.faults.fuzz` tries ten thousand others in processes of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults.fuzz.memory import limited
from tests.faults.fuzz.reader import Case, Reader
from tests.faults.fuzz.readers import READERS


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.slug)
def test_a_file_is_read_or_refused_in_one_line(reader: Reader, tmp_path: Path) -> None:
    names = set(reader.make(tmp_path / "valid") if (tmp_path / "valid").mkdir() is None else ())
    for name in names:
        reader.read(tmp_path / "valid", name)
    read: list[bool] = []
    folder = tmp_path / "broken"
    folder.mkdir()

    @settings(
        max_examples=reader.quick,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.cases(folder))
    def check(case: Case) -> None:
        with limited():
            read.append(reader.accepts(folder, case))

    check()
    assert any(read), "all were refused: the mutations are too coarse"
    assert not all(read), "nothing was refused"
