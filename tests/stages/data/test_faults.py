"""All faults of a data set at once."""

from __future__ import annotations

import pytest

from stages.data.faults import MOST, Faults
from stages.errors import InputError


def gathered(*lines: str) -> Faults:
    faults = Faults("/data")
    for line in lines:
        with faults.caught():
            raise InputError(line)
    return faults


def test_none_is_no_refusal() -> None:
    gathered().refuse()


def test_one_is_the_error_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^a\.xml: missing$"):
        gathered("a.xml: missing").refuse()
    assert capsys.readouterr().err == ""


def test_several_are_named_each(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^/data: 2 faults, named above; nothing was trained$"):
        gathered("a.xml: missing", "b.xml: missing").refuse()
    assert capsys.readouterr().err == "  a.xml: missing\n  b.xml: missing\n"


def test_very_many_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=f"{MOST + 5} faults"):
        gathered(*(f"{i}.xml: missing" for i in range(MOST + 5))).refuse()
    lines = capsys.readouterr().err.splitlines()
    assert lines[MOST - 1 :] == [f"  {MOST - 1}.xml: missing", "  and 5 more"]


def test_other_errors_are_not_held_back() -> None:
    with pytest.raises(ZeroDivisionError), Faults("/data").caught():
        raise ZeroDivisionError
