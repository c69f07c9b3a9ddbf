"""Levels of the log: one for everything, and others for parts of it.

A part is the first word of an event's name (`auth` of `auth.failed`), as lines show it, or a
library.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from notifyd.core.records import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

LIBRARIES: Final = ("asyncio", "django", "redis", "websockets")
"""The libraries whose records have a level of their own."""

PARTS: Final = (*sorted({name.partition(".")[0] for name in EVENTS}), *LIBRARIES)


def parse_level(text: str) -> tuple[str, str]:
    """Return the part and the level that `part=level` names.

    Raises ValueError with a text that completes "NAME = VALUE ...".
    """
    part, equals, level = text.partition("=")
    if not equals:
        raise ValueError('names no level; write part=level, like "auth=debug"')
    if part not in PARTS:
        raise ValueError(f"is about no part of the log; {_nearest(part, PARTS)}")
    if level not in LEVELS:
        raise ValueError(f"ends with no level; {_nearest(level, LEVELS)}")
    if part in LIBRARIES and level == "debug":
        raise ValueError(
            f"would show headers and the parameters of queries; write {part}=info at most"
        )
    return part, level


def _nearest(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"did you mean {near[0]}?" if near else f"write one of {', '.join(words)}"


def by_part(texts: Iterable[str]) -> Mapping[str, str]:
    """Return the level of each part that has one of its own. Raises ValueError like the above."""
    return dict(parse_level(text) for text in texts)
