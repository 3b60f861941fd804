"""What goes wrong with a file, as hypothesis strategies: bytes, words of a text, values of a JSON tree.

Each takes a valid file's content and gives contents with one thing wrong, or a few.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

# Where a number is read from bytes: none, all, the largest of each size, minus one and the like.
NUMBERS = [
    *(b"\x00" * n for n in (1, 4, 8)),
    *(b"\xff" * n for n in (1, 2, 4, 8)),
    *(b"\x7f" + b"\xff" * n for n in (1, 3, 7)),
    *(b"\xff" * n + b"\x7f" for n in (1, 3, 7)),
    b"\x00\x00\x00\x80",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x40",
    b"\x01\x00\x00\x00",
]
# Where a text has a word: numbers that are none or too many, names that lead elsewhere, other scripts.
WORDS = [
    *("", " ", "0", "-1", "-0", "1", "2", "255", "65536", "1.5", "1e9", "1e308", "1e309", "-1e400"),
    *(
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "0x10",
        "1_000",
        "٣",
        "𝟙",  # noqa: RUF001
        "½",
        "+5",
        "1,5",
        "1e",
        "--",
        ".",
    ),
    *("4294967296", "9223372036854775808", "9" * 25, "9" * 400, "-" + "9" * 5000),
    *("..", "../..", "../evil", "/etc/passwd", "C:\\evil", "a/b", "a\\b", "~", "~nobody", "$HOME"),
    *("null", "true", "no", "None", "[]", "{}", "<a>", "&amp;", "&lol;", "%s%n", "{0}", "\x00"),
    *(
        "\u2028",
        "\x85",
        "\r\n",
        "\t",
        "é",
        "\u202e",
        "\U0001f408",
        "\ufeff",
        "x" * 3000,
        "(" * 5000,
    ),
]
# Where JSON has a value.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, -1e308, 1e-320, 255, 65536, 10**6),
    *(2**31, 2**32, 2**53, 2**63, -(2**63) - 1, 10**25, 10**400, float("nan"), float("inf")),
    *([], {}, [[]], [{}], [None], {"": None}, [1, 2, 3, 4], [0, 0, 0, 0], ["a"], [1e308] * 4),
    *("", " ", "a", "0", "..", "../evil", "/etc/passwd", "a\x00b", "\ud800", "é", "x" * 3000),
    *([0] * 1000, [[0, 0, 1, 0, 1, 1]], {"size": [1, 1], "counts": "1"}, {"is": "Config"}),
]


def anything(name: str, whole: bytes) -> st.SearchStrategy[bytes]:
    """What may go wrong with a file of that name: in its bytes, or as what it is by its suffix."""
    suffix = name.rpartition(".")[2]
    if suffix == "json":
        return broken_json(json.loads(whole)) | broken_bytes(whole) | broken_text(whole.decode())
    if suffix in ("txt", "xml", "yaml"):
        return broken_text(whole.decode()) | broken_bytes(whole)
    return broken_bytes(whole)


@st.composite
def broken_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to four bits flipped, bytes set, parts cut, inserted, repeated, dropped or swapped."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(HOW))
        how(draw, data)
    return bytes(data)


def _at(draw: st.DrawFn, data: bytearray) -> int:
    return draw(st.integers(0, max(len(data) - 1, 0)))


def _flip(draw: st.DrawFn, data: bytearray) -> None:
    if data:
        data[_at(draw, data)] ^= 1 << draw(st.integers(0, 7))


def _set(draw: st.DrawFn, data: bytearray) -> None:
    if data:
        data[_at(draw, data)] = draw(st.integers(0, 255))


def _number(draw: st.DrawFn, data: bytearray) -> None:
    place, number = _at(draw, data), draw(st.sampled_from(NUMBERS))
    data[place : place + len(number)] = number


def _cut(draw: st.DrawFn, data: bytearray) -> None:
    del data[_at(draw, data) :]


def _insert(draw: st.DrawFn, data: bytearray) -> None:
    place = _at(draw, data)
    data[place:place] = draw(st.sampled_from(NUMBERS) | st.binary(max_size=40))


def _block(draw: st.DrawFn, data: bytearray) -> slice:
    start = _at(draw, data)
    return slice(start, start + draw(st.sampled_from((1, 2, 4, 8, 16, 64, 256, 1024))))


def _repeat(draw: st.DrawFn, data: bytearray) -> None:
    which = _block(draw, data)
    data[which.start : which.start] = data[which] * draw(st.sampled_from((1, 2, 50)))


def _drop(draw: st.DrawFn, data: bytearray) -> None:
    del data[_block(draw, data)]


def _swap(draw: st.DrawFn, data: bytearray) -> None:
    one, other = _block(draw, data), _at(draw, data)
    part = data[one]
    data[one] = data[other : other + len(part)]
    data[other : other + len(part)] = part


Bytes = Callable[[st.DrawFn, bytearray], None]
# The small faults, which leave a file readable for longest, more often.
HOW: list[Bytes] = [
    _flip,
    _flip,
    _set,
    _set,
    _number,
    _number,
    _cut,
    _insert,
    _repeat,
    _drop,
    _swap,
]


@st.composite
def broken_text(draw: st.DrawFn, whole: str) -> bytes:
    """One to three words replaced, dropped, repeated, swapped with another, or one put in front."""
    words = re.findall(r"[\w.+-]+|\s+|.", whole, re.DOTALL)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(words) - 1))
        other = draw(st.integers(0, len(words) - 1))
        how = draw(st.sampled_from(("replace", "replace", "drop", "repeat", "swap", "insert")))
        if how == "replace":
            words[place] = draw(st.sampled_from(WORDS) | st.text(max_size=5))
        elif how == "drop":
            words[place] = ""
        elif how == "repeat":
            words[place] *= draw(st.sampled_from((2, 3, 1000)))
        elif how == "swap":
            words[place], words[other] = words[other], words[place]
        else:
            words[place] = draw(st.sampled_from(WORDS)) + words[place]
    return "".join(words).encode("utf-8", "surrogatepass")


@st.composite
def broken_json(draw: st.DrawFn, whole: Any) -> bytes:
    """One value or two of a tree replaced, removed, doubled, renamed or swapped; or a tower of brackets."""
    # A composite may change what it draws, but not what it was given.
    root = {"": copy.deepcopy(whole)}
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(root))
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "double", "swap")))
        if how == "replace":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif how == "remove" and holder is not root:
            del holder[key]
        elif how == "double" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif how == "double" and holder is not root:
            holder[f"{key}{draw(st.sampled_from((' ', 's', '_', '')))}"] = holder.pop(key)
        elif how == "swap":
            other, at = draw(st.sampled_from(places))
            holder[key], other[at] = copy.deepcopy(other[at]), copy.deepcopy(holder[key])
    text = json.dumps(root[""])
    if draw(st.integers(0, 50)) == 0:
        depth = draw(st.sampled_from((100, 5000, 100_000)))
        text = "[" * depth + text + "]" * depth
    return text.encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a tree, as (what holds it, key or number)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
