from __future__ import annotations

import re

import pytest

from notifyd.core.levels import PARTS, by_part, parse_level
from notifyd.core.records import EVENTS


def test_parts() -> None:
    """Every event belongs to a part that can have a level of its own, and so do four libraries."""
    assert {name.partition(".")[0] for name in EVENTS} < {*PARTS}
    assert {"asyncio", "django", "redis", "websockets"} < {*PARTS}


def test_levels_of_parts() -> None:
    """A part has the level that is written behind it."""
    assert by_part(["auth=debug", "django=error"]) == {"auth": "debug", "django": "error"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("debug", 'names no level; write part=level, like "auth=debug"'),
        ("Auht=debug", "is about no part of the log; did you mean auth?"),
        ("=debug", "is about no part of the log; write one of auth, bus, "),
        ("auth=warn", "ends with no level; did you mean warning?"),
        ("auth=7", "ends with no level; write one of debug, info, warning, error, critical"),
        ("auth=", "ends with no level; write one of debug, "),
        ("django=debug", "would show headers and the parameters of queries; write django=info"),
    ],
)
def test_wrong_level(text: str, words: str) -> None:
    """What names no part or no level is refused, with what to write."""
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_level(text)
