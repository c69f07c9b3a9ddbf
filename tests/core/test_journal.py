from __future__ import annotations

import pytest

from notifyd.core import journal


def test_assignments() -> None:
    """An entry is a sequence of NAME=value lines."""
    assert journal.encode_entry({"MESSAGE": "grüße", "PRIORITY": "6"}) == (
        b"MESSAGE=gr\xc3\xbc\xc3\x9fe\nPRIORITY=6\n"
    )


def test_value_with_line_break_is_preceded_by_its_length() -> None:
    """A value with a line break follows its length in 64 bits, little endian, so adds no field."""
    assert journal.encode_entry({"MESSAGE": "a\nPRIORITY=0"}) == (
        b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n"
    )


def test_lone_surrogate_is_escaped() -> None:
    """What UTF-8 can't encode is escaped, not raised."""
    assert journal.encode_entry({"MESSAGE": "\ud800"}) == b"MESSAGE=\\ud800\n"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("retry_in", "NOTIFYD_RETRY_IN"),
        ("a-b=c\n", "NOTIFYD_A_B_C_"),
        ("größe", "NOTIFYD_GR_SSE"),
        ("x" * 99, "NOTIFYD_" + "X" * 56),
    ],
)
def test_field_name(name: str, field: str) -> None:
    """A field's name has at most 64 capital letters, digits and underscores."""
    assert journal.field_name(name) == field


def test_sentence() -> None:
    """The line for people is the event and its fields, those without a value left out."""
    fields = {"error": "no route", "retry_in": 1.5, "id": None, "source": "stream", "up": False}
    sentence = 'bus.down error="no route" retry_in=1.5 source=stream up=false'
    assert journal.sentence("bus.down", fields) == sentence


def test_sentence_is_one_line_and_unambiguous() -> None:
    """A value with spaces, quotes or line breaks is quoted: it can't pass for other fields."""
    assert journal.sentence("x.y", {"a": 'b\n"c" d=e'}) == 'x.y a="b\\n\\"c\\" d=e"'


def test_text() -> None:
    """A field's value is its text, or JSON."""
    assert [journal.text(value) for value in ("ä", True, [1, "ä"])] == ["ä", "true", '[1, "ä"]']
