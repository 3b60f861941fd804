"""Other machines' tables in this machine's report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.report import write
from benchmarks.report.comparison import Comparison
from benchmarks.report.machines import FOLDER, elsewhere
from benchmarks.report.write import write_report
from stages.errors import InputError


def test_other_machines_rows_are_shown(
    compared: list[Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = compared[0].table.assign(device="one <large> GPU", seconds=0.0125)
    there.to_csv(tmp_path / "gpu.csv", index=False)
    monkeypatch.setattr(write, "elsewhere", lambda: elsewhere(tmp_path))
    report = tmp_path / "report"
    report.mkdir()
    page = write_report(compared, report, "make bench").read_text()
    section = page.partition("Measured elsewhere</h2>")[2]
    assert "one &lt;large&gt; GPU" in section
    assert "12.5 ms" in section
    for suffix in ("png", "svg"):
        assert (report / f"machines.{suffix}").stat().st_size > 1000


def test_a_table_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,label\nx,y\n")
    with pytest.raises(InputError, match=r"a\.csv: is no benchmark\.csv: has no column paper"):
        elsewhere(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.csv: not readable"):
        elsewhere(tmp_path)


def test_the_tables_that_come_along_are_readable() -> None:
    table = elsewhere()
    assert len(table) >= len(list(FOLDER.glob("*.csv")))
    assert table.device.map(bool).all()


def test_tables_of_several_machines_are_joined(compared: list[Comparison], tmp_path: Path) -> None:
    for name in ("a", "b"):
        compared[0].table.assign(device=name).to_csv(tmp_path / f"{name}.csv", index=False)
    table = elsewhere(tmp_path)
    assert sorted(set(table.device)) == ["a", "b"]
    assert len(table) == 2 * len(compared[0].table)
    assert not [name for name in table if str(name).startswith("part: ")]
    pd.testing.assert_series_equal(
        table[table.device == "a"].map_high.reset_index(drop=True),
        table[table.device == "b"].map_high.reset_index(drop=True),
    )
