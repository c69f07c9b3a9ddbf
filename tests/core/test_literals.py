from __future__ import annotations

import datetime as dt
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.literals import line, literal, parse, quote, read

STRINGS = tuple[str, ...]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, " as it is ", " as it is "),
        (bool, "true", True),
        (bool, "1", True),
        (bool, "Yes", True),
        (bool, "false", False),
        (bool, "0", False),
        (bool, "NO", False),
        (int, "1_000", 1000),
        (float, "5", 5.0),
        (STRINGS, "", []),
        (STRINGS, "a:1, b:2,,", ["a:1", "b:2"]),
    ],
)
def test_text_stands_for_a_value(kind: Any, text: str, value: object) -> None:
    """Text from the environment stands for what TOML would have given."""
    assert parse(kind, text) == value


@pytest.mark.parametrize(("kind", "text"), [(bool, "on"), (int, "5.0"), (float, "5s")])
def test_text_stands_for_nothing(kind: Any, text: str) -> None:
    """Text that stands for no value of its kind stays text, which is then refused."""
    assert parse(kind, text) == text
    with pytest.raises(ValueError, match="without quotes"):
        read(kind, text)


@pytest.mark.parametrize(
    ("kind", "raw", "hint"),
    [
        (bool, 1, "true nor false"),
        (int, True, "no whole number"),
        (int, 5.0, "no whole number"),
        (float, False, "no number"),
        (float, "5.0", "no number"),
        (float, math.inf, "not finite"),
        (float, math.nan, "not finite"),
        (float, 10**400, "not finite"),
        (str, 5, "in quotes"),
        (str, "a\nb", "cannot be printed"),
        (str, "a\udc80", "cannot be printed"),
        (STRINGS, "a:1", "no list"),
        (STRINGS, ["a:1", 2], "no list"),
        (STRINGS, ["a\0"], "cannot be printed"),
    ],
)
def test_types_are_strict(kind: Any, raw: object, hint: str) -> None:
    """A value of another type is refused: true is no number, and a text is no list."""
    with pytest.raises(ValueError, match=hint):
        read(kind, raw)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (bool, False, False),
        (int, 5, 5),
        (float, 5, 5.0),
        (str, "", ""),
        (STRINGS, ["a", "b"], ("a", "b")),
    ],
)
def test_values(kind: Any, raw: object, value: object) -> None:
    """A value of the right type is taken; a whole number is good for any number."""
    assert (read(kind, raw), type(read(kind, raw))) == (value, type(value))


@given(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.text(st.characters(exclude_categories=["Cs"])))
)
def test_literals_are_toml(value: object) -> None:
    """What is written as a literal is read back as the same value."""
    assert tomllib.loads(f"x = {literal(value)}") == {"x": value}


def test_literals_are_legible() -> None:
    """Long numbers are grouped, and what no option can hold is named in words."""
    assert (literal(9999), literal(10_000)) == ("9999", "10_000")
    assert literal(dt.date(2026, 1, 1)) == "a date"


def test_quoting() -> None:
    """A quoted value is one short line, and a password that slipped into it is hidden."""
    assert quote(["https://user:secret@x", "b"]) == '["https://user:***@x", "b"]'
    assert quote("\udc80") == '"?"'
    assert len(quote("x" * 1000)) == 103
    assert line("a\nb\x1b") == "a?b?"
