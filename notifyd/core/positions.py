"""Positions in the stream: the ids of its entries, and their order.

An id is `MILLISECONDS-NUMBER`, both of 64 bits without a sign (Redis, "Streams"). Clients treat
ids as opaque; only the daemon orders them.
"""

from __future__ import annotations

import re
from typing import Final

Position = tuple[int, int]
"""An id as numbers, which compare as the entries follow each other."""

_ID: Final = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)
_MOST: Final = (1 << 64) - 1


def parse_position(id_: str) -> Position:
    """Return the position that an id names. Raises ValueError for what Redis never gives out."""
    match = _ID.fullmatch(id_)
    if match is None:
        raise ValueError("not an id of a stream")
    position = int(match[1]), int(match[2])
    if max(position) > _MOST:
        raise ValueError("an id's numbers have 64 bits")
    return position


def format_position(position: Position) -> str:
    """Return the id of a position."""
    return f"{position[0]}-{position[1]}"
