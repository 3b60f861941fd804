"""What tyro says of a wrong option, in one line that a person reads at the first go."""

from __future__ import annotations

import difflib
import re

from stages.errors import one_line

CHOICE = re.compile(
    r"[Ii]nvalid choice '?(?P<value>[^']*)'? for argument '(?P<option>[^']*)'\. "
    r"Expected one of \((?P<choices>[^)]*)\)"
)
MISSING = re.compile(
    r"Missing value for argument '(?P<option>[^']*)'\. Expected (?P<count>\d+) value"
)
PARSING = re.compile(r"Error parsing (?P<option>--[\w.-]+): (?P<why>.*)")
GIVEN = re.compile(r"\['(?P<value>.*?)'\]|base 10: '(?P<number>.*?)'|to float: '(?P<broken>.*?)'")
TAKES = re.compile(r"Argument helptext: (?:\S+, )*--[\w.-]+ (?P<kind>\{.*?\}\|\S+|\[.*\]\]|\S+)")
KINDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "{None}|INT": "a whole number or None",
    "{None}|FLOAT": "a number or None",
    "[INT [INT ...]]": "whole numbers, blanks between them",
    "[FLOAT [FLOAT ...]]": "numbers, blanks between them",
    "INT INT": "two whole numbers",
    "FLOAT FLOAT": "two numbers",
}


def plain(said: str) -> str:
    """The message of tyro's box, shorter; as it is where it is of another kind.

    Args:
        said: with the box's frame and colours.
    """
    words = one_line(re.sub(r"\x1b\[[0-9;]*m|[─│╭╮╰╯├┤]", " ", said))
    words = words.removeprefix("Parsing error ").partition(" For full helptext")[0]
    if match := CHOICE.search(words):
        choices = re.findall(r"'([^']*)'", match["choices"])
        near = difflib.get_close_matches(match["value"], choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{match['option']} {match['value']}: takes {', '.join(choices)}{hint}"
    if match := MISSING.search(words):
        values = "a value" if match["count"] == "1" else f"{match['count']} values"
        return f"{match['option']}: needs {values}"
    if match := PARSING.search(words):
        why, _, _ = match["why"].partition(" Argument helptext: ")
        given, kind = GIVEN.search(why), TAKES.search(words)
        value = next((group for group in given.groups() if group is not None), "") if given else ""
        if kind is not None and kind["kind"] in KINDS:
            return f"{match['option']} {value}: takes {KINDS[kind['kind']]}".replace("  ", " ")
        return f"{match['option']}: {why}"
    return words
