"""Entries of the bus as text: a line for programs, and one for people."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from notifyd.core.positions import parse_position
from notifyd.core.screen import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_FAINT: Final = "2"
_COLOURS: Final = {"event": "1", "to": "36", "control": "35"}
"""Codes of Select Graphic Rendition (ECMA-48): bold, cyan and magenta for the names of fields."""


def as_object(id_: str | None, fields: Mapping[bytes, bytes], channel: str) -> dict[str, Any]:
    """Return an entry as JSON has it: its id, or the channel it came by, and its fields decoded.

    What is no JSON is shown as it is, since it is what one looks for.
    """
    place = {"channel": channel} if id_ is None else {"id": id_}
    return place | {name.decode(errors="replace"): _read(value) for name, value in fields.items()}


def as_words(entry: Mapping[str, Any], *, colours: bool) -> str:
    """Return a line for a terminal: when Redis took the entry (UTC), and what `as_object` says."""
    id_ = entry.get("id")
    place = f"channel {entry['channel']}" if id_ is None else f"{_time(id_)} {id_}"
    words = [_coloured(printable(place), _FAINT, colours)]
    for name, value in entry.items():
        if name not in {"id", "channel"}:
            words.append(_coloured(printable(name), _COLOURS.get(name, _FAINT), colours))
            words.append(printable(json.dumps(value, ensure_ascii=False)))
    return " ".join(words)


def _read(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value.decode(errors="replace")


def _time(id_: str) -> str:
    milliseconds = parse_position(id_)[0]
    try:
        moment = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    except (OverflowError, ValueError):
        # An id may be given by whoever writes the entry.
        return "-"
    return f"{moment:%H:%M:%S}.{milliseconds % 1000:03}"


def _coloured(text: str, code: str, colours: bool) -> str:  # noqa: FBT001 - handed through
    return f"\x1b[{code}m{text}\x1b[m" if colours else text
