"""The archive: what the stream has kept, asked for over a link of its own, opened when needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from notifyd.core.batch import Extent, Page, Unavailable
from notifyd.core.positions import format_position, parse_position
from notifyd.daemon.bus_link import FAULTS, Link, describe
from notifyd.daemon.bus_stream import COUNT, keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from notifyd.core.batch import RawEntry
    from notifyd.core.positions import Position
    from notifyd.daemon.bus_link import RedisURL

SCAN: Final = 512
"""Entries looked through for control entries at once; Redis serves nobody else meanwhile."""

# All of it at one moment: with an epoch that was asked for a moment later, entries could be taken
# for those of another history. An absent stream has no entries, and so can't tell of any.
_EXTENT: Final = """
local extent = {redis.call('GET', KEYS[2]) or '', '0-0', '0-0'}
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      extent[2], extent[3] = info[i + 1], info[i + 1]
    end
  end
  for i = 1, #info, 2 do
    if info[i] == 'first-entry' and info[i + 1] then extent[2] = info[i + 1][1] end
  end
end
"""
_ASK: Final = _EXTENT + "return {extent}"
_PAGE: Final = _EXTENT + "return {extent, redis.call(unpack(ARGV))}"
_SCAN: Final = (
    _EXTENT
    + """
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local controls = {}
for _, entry in ipairs(entries) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'control' then
      controls[#controls + 1] = {entry[1], entry[2][i + 1]}
      break
    end
  end
end
return {extent, #entries > 0 and entries[#entries][1] or false, controls}
"""
)


class Archive:
    """Reads back in the stream with a prefix at a Redis; an answer must come `within` seconds.

    Every method may raise Unavailable. They may be called at the same time, and take turns.
    """

    def __init__(self, url: RedisURL, *, prefix: str, within: float) -> None:
        self._url = url
        self._keys = keys(prefix)
        self._within = within
        self._turn = asyncio.Lock()
        self._link: Link | None = None

    async def extent(self) -> Extent:
        """Return how far the stream reaches."""
        [extent] = await self._ask(_ASK)
        return _extent(extent)

    async def forward(self, after: Position, until: Position) -> Page:
        """Return the oldest entries behind `after`, none behind `until`."""
        words = ("XRANGE", self._keys[0], f"({format_position(after)}", format_position(until))
        return _page(await self._ask(_PAGE, *words, "COUNT", COUNT))

    async def backward(self, until: Position, after: Position) -> Page:
        """Return the newest entries up to `until`, which may be among them, none before `after`."""
        words = ("XREVRANGE", self._keys[0], format_position(until), f"({format_position(after)}")
        page = _page(await self._ask(_PAGE, *words, "COUNT", COUNT))
        page.entries.reverse()
        return page

    async def controls(self, until: Position) -> tuple[Extent, list[RawEntry]]:
        """Return all control entries that the stream has up to `until`, and how far it reached.

        The extent is that of the beginning.
        """
        found: list[RawEntry] = []
        begun: Extent | None = None
        start, last = "-", format_position(until)
        while True:
            extent, end, controls = await self._ask(_SCAN, start, last, SCAN)
            begun = begun or _extent(extent)
            found += [(id_.decode(), {b"control": body}) for id_, body in controls]
            if not end:
                return begun, found
            start = f"({end.decode()}"

    async def close(self) -> None:
        """Close the link; the next question opens another."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _ask(self, script: str, *arguments: str | int) -> Any:
        async with self._turn:
            if self._link is not None:
                try:
                    return await self._call(self._link, script, *arguments)
                except FAULTS:
                    # It may just have been idle for too long: that is no reason to fail.
                    await self.close()
            try:
                self._link = await Link.open(self._url, within=self._within)
                return await self._call(self._link, script, *arguments)
            except FAULTS as error:
                await self.close()
                # Not chained: only explain() has taken the password out of what the error says.
                raise Unavailable(describe(self._url, error)) from None

    async def _call(self, link: Link, script: str, *arguments: str | int) -> Any:
        call: Callable[..., Awaitable[Any]] = link.call
        return await call("EVAL", script, 2, *self._keys, *arguments)


def _extent(answer: Any) -> Extent:
    epoch, first, last = (word.decode("utf-8", "replace") for word in answer)
    return Extent(epoch, parse_position(first), parse_position(last))


def _page(answer: Any) -> Page:
    extent, rows = answer
    entries: list[RawEntry] = [
        (id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in rows
    ]
    return Page(_extent(extent), entries, complete=len(entries) < COUNT)
