"""JSON as dataclasses: what is written is read again, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import InputError
from stages.typed_json import read_typed


@dataclass(frozen=True)
class Inner:
    sides: tuple[float, ...] = (1.0, 2.0)
    most: int | None = None


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    names: tuple[str, ...]
    pair: tuple[int, int]
    share: float
    flag: bool
    inner: Inner = field(default_factory=Inner)


VALUE = Outer("b", ("x", "ÿ"), (3, 4), 0.25, True, Inner((0.5,), 7))
FIELDS: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(VALUE)))


def written(folder: Path, text: str) -> Path:
    path = folder / "value.json"
    path.write_text(text)
    return path


def read(folder: Path, **changes: Any) -> Outer:
    return read_typed(written(folder, json.dumps({**FIELDS, **changes})), Outer, "a thing")


def said(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_typed(path, Outer, "a thing")
    message = str(caught.value)
    assert str(path) in message
    assert "not of a thing" in message
    assert "\n" not in message
    return message


def test_what_was_written_is_read(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found == VALUE
    assert isinstance(found.inner, Inner)
    # Lists of the file are the tuples they were, so that the value can be hashed.
    assert isinstance(found.names, tuple)
    assert isinstance(found.inner.sides, tuple)
    assert hash(found) == hash(VALUE)


@settings(max_examples=50)
@given(
    st.builds(
        Outer,
        st.sampled_from(["a", "b"]),
        st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3).map(tuple),
        st.tuples(st.integers(-(2**40), 2**40), st.integers(-9, 9)),
        st.floats(-1e15, 1e15),
        st.booleans(),
        st.builds(
            Inner,
            st.lists(st.floats(-1e9, 1e9), max_size=3).map(tuple),
            st.none() | st.integers(0, 99),
        ),
    )
)
def test_anything_that_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: Outer
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(dataclasses.asdict(value), indent=1))
    assert read_typed(path, Outer, "a thing") == value


def test_a_whole_number_may_stand_for_a_float(tmp_path: Path) -> None:
    found = read(tmp_path, share=1)
    assert found.share == 1.0
    assert isinstance(found.share, float)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"kind": "c"}, "kind"),
        ({"kind": None}, "kind"),
        ({"names": "xy"}, "names"),
        ({"names": ["x", 3]}, "names.1"),
        ({"pair": [3]}, "pair.1"),
        ({"pair": [3, 4, 5]}, "pair"),
        ({"pair": [3, 4.5]}, "pair.1"),
        ({"pair": [3, 4.0]}, "pair.1"),
        ({"pair": [True, 4]}, "pair.0"),
        ({"share": "0.25"}, "share"),
        ({"share": True}, "share"),
        ({"share": None}, "share"),
        ({"flag": 1}, "flag"),
        ({"flag": "true"}, "flag"),
        ({"inner": [1.0]}, "inner"),
        ({"inner": {"sides": [1, "2"]}}, "inner.sides.1"),
        ({"inner": {"sides": [1], "most": 2.5}}, "inner.most"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(
    tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    path = written(tmp_path, json.dumps({**FIELDS, **changes}))
    assert f": {place}: " in said(path)


@pytest.mark.parametrize(
    "number", ["1e308", "-1e30", "Infinity", "NaN", "1" + "0" * 30, "1" + "0" * 400]
)
def test_a_number_of_nothing_is_refused(tmp_path: Path, number: str) -> None:
    text = json.dumps({**FIELDS, "share": 0.5}).replace("0.5", number, 1)
    assert number in text
    said(written(tmp_path, text))


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "inner"])
def test_a_field_too_few_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    fields = {key: value for key, value in FIELDS.items() if key != name}
    assert f": {name}: " in said(written(tmp_path, json.dumps(fields)))


@pytest.mark.parametrize("changes", [{"more": 1}, {"inner": {"sides": [1.0], "mots": 3}}])
def test_a_field_too_many_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    said(written(tmp_path, json.dumps({**FIELDS, **changes})))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", '"text"', "{}", json.dumps(FIELDS)[:-1], json.dumps(FIELDS) + "x"],
)
def test_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    said(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(b"\xff\xfe\x00")
    said(path)


def test_what_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in said(tmp_path / "nowhere.json")
    assert "directory" in said(tmp_path)
