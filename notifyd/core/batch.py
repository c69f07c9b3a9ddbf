"""What the bus hands to the relay: batches of raw entries, and word of where it stands.

And what it answers when it is asked about older entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from notifyd.core.positions import Position

Source = Literal["stream", "pubsub"]
SOURCES: Final[tuple[Source, ...]] = ("stream", "pubsub")
RawEntry = tuple[str | None, dict[bytes, bytes]]
"""The entry's id (None: it came by Pub/Sub, which has none) and its fields."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that were there at once, in the order of their source."""

    source: Source
    entries: list[RawEntry]


@dataclass(frozen=True, slots=True)
class Positioned:
    """The position of this daemon in the stream became known, or jumped.

    `gap` says in words why events may have been missed; None the first time.
    """

    epoch: str
    last_id: str
    gap: str | None


class Unavailable(Exception):  # noqa: N818 - an answer, not an error of the program
    """The bus can't be asked at the moment; the text says why, and names no secret."""


class Extent(NamedTuple):
    """Which history the stream has, the position of its first entry, and its last position."""

    epoch: str
    first: Position
    last: Position


class Page(NamedTuple):
    """Some entries in stream order, and the extent at the moment when they were read.

    `complete`: there are no more where they came from.
    """

    extent: Extent
    entries: list[RawEntry]
    complete: bool
