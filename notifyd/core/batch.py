"""What the bus hands to the relay: batches of raw entries, and word of where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["stream", "pubsub"]
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
