"""Text for a terminal."""

from __future__ import annotations

from notifyd.core.screen import frame, printable, table


def test_printable() -> None:
    """What people can read stays as it is, whatever the script."""
    assert printable("größer → 通知 𝄞") == "größer → 通知 𝄞"


def test_not_printable() -> None:
    """What a terminal would obey is shown instead: control characters, and those for direction."""
    assert printable("a\x1b[2J\n\x9b\u202eb") == "a\\x1b[2J\\n\\x9b\\u202eb"


def test_table() -> None:
    """The cells of a table stand below each other, and no line ends with spaces."""
    assert table([["a", "b", "c"], ["long", "\t", ""]]) == ["a     b   c", "long  \\t"]


def test_empty_table() -> None:
    """A table without rows has no lines."""
    assert table([]) == []


def test_frame() -> None:
    """A page is drawn over the one before: each line is cleared behind its end, then the rest."""
    assert frame(["abc", "d"], 2, 10) == "\x1b[Hab\x1b[K\nd\x1b[K\n\x1b[J"


def test_low_frame() -> None:
    """A page that is too high is cut, so that the terminal does not scroll."""
    assert frame(["a", "b", "c"], 80, 3) == "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
    assert frame(["a", "b"], 80, 1) == "\x1b[Ha\x1b[K\n\x1b[J"
