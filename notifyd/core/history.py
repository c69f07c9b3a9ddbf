"""The recent stream in memory, and what a client that is behind still has to get of it.

The records are a contiguous run that ends at the present: they are added at its end as they are
relayed, and at its beginning when somebody asks for older ones. The bound is in bytes, and the
oldest give way, a block at a time.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from notifyd.core.block import Block, weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from notifyd.core.audience import Audience
    from notifyd.core.block import Record
    from notifyd.core.positions import Position

BLOCK_BYTES: Final = 128 * 1024
"""What a block holds, about, and so what a client is written at once."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the stream for one client: the records of a block from an index on.

    They reach up to the position `end`; `latest` if nothing is known that follows.
    """

    block: Block
    start: int
    end: Position
    latest: bool = False

    def visible(self, audience: Audience, user: str) -> tuple[bytes, int]:
        """Return the frames that the user may see, joined in order, and how many they are."""
        return self.block.visible(self.start, audience, user)


class History:
    """The records behind the position `floor` up to the position `end`, the present.

    Nothing is known before a `reset`. `most` is in bytes; a block more may be kept for a moment. If
    it is lowered, the next record that comes makes the oldest give way.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._blocks: list[Block] = []
        self._bytes = 0
        self.floor: Position | None = None
        self.end: Position | None = None

    def __len__(self) -> int:
        return sum(len(block.records) for block in self._blocks)

    @property
    def full(self) -> bool:
        """Whether no older record fits in."""
        return self._bytes >= self.most

    @property
    def seconds(self) -> float:
        """How far it reaches back, by the times in the positions."""
        if self.floor is None or self.end is None:
            return 0.0
        return max(0.0, (self.end[0] - self.floor[0]) / 1000)

    def reset(self, position: Position) -> None:
        """Forget everything: the present is this position."""
        self._blocks.clear()
        self._bytes = 0
        self.floor = self.end = position

    def append(self, records: Sequence[Record]) -> None:
        """Add what was relayed; the last of the records becomes the present."""
        _fill(self._blocks, records)
        self._bytes += sum(map(weight, records))
        self.end = records[-1].position
        while self._bytes > self.most:
            oldest = self._blocks.pop(0)
            self._bytes -= oldest.weight
            self.floor = oldest.last

    def prepend(self, records: Sequence[Record], floor: Position) -> None:
        """Add older records: all of the stream behind `floor` and up to where the floor was.

        If not all of them fit in, the newest are kept.
        """
        older: list[Record] = []
        for record in reversed(records):
            if self.full:
                floor = record.position
                break
            older.append(record)
            self._bytes += weight(record)
        blocks: list[Block] = []
        _fill(blocks, reversed(older))
        self._blocks[:0] = blocks
        self.floor = floor

    def after(self, position: Position) -> Chunk | None:
        """Return what follows a position, a chunk at most; None if that reaches back too far.

        From a position beyond the present nothing follows: the end is that position itself.
        """
        if self.floor is None or self.end is None or position < self.floor:
            return None
        number = bisect.bisect_right(self._blocks, position, key=attrgetter("last"))
        if number == len(self._blocks):
            return Chunk(Block(), 0, max(position, self.end), latest=True)
        block = self._blocks[number]
        latest = number == len(self._blocks) - 1
        return Chunk(block, block.after(position), self.end if latest else block.last, latest)


def _fill(blocks: list[Block], records: Iterable[Record]) -> None:
    """Add records to the last block, and to new ones whenever that is full."""
    for record in records:
        if not blocks or blocks[-1].weight >= BLOCK_BYTES:
            blocks.append(Block())
        blocks[-1].add(record)
