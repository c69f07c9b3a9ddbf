"""Text for a terminal: columns, a page that fits, and nothing that a terminal would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOME: Final = "\x1b[H"
"""Go to the upper left corner."""

CLEAR_LINE: Final = "\x1b[K"
CLEAR_REST: Final = "\x1b[J"
"""Clear from here to the end of the line, of the screen (ECMA-48: EL, ED)."""


def printable(text: str) -> str:
    """Return the text with whatever is not printable as escapes, as Python writes them.

    What strangers wrote could else move the cursor, change colours, or reverse the line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its cells in columns two spaces apart.

    All rows have the same number of cells.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in safe
    ]


def frame(lines: Iterable[str], columns: int, rows: int) -> str:
    """Return what draws the lines over whatever a terminal of that size shows, without a flicker.

    Nothing is cleared before it is written over; what does not fit is cut.
    """
    shown = [line[:columns] + CLEAR_LINE for line in lines]
    return HOME + "\n".join(shown[: max(1, rows - 1)]) + "\n" + CLEAR_REST
