"""The stream: where this daemon stands in it, reading on from there, and trimming by age."""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis import exceptions

from notifyd.core.batch import Batch, Positioned
from notifyd.core.positions import parse_position
from notifyd.daemon.bus_link import Link, NotMasterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.batch import RawEntry, Source
    from notifyd.daemon.bus_link import RedisURL
    from notifyd.daemon.bus_outage import BusStats

log = structlog.stdlib.get_logger()

BLOCK: Final = 5.0
"""Seconds a read waits for entries: the longest time until an idle link is probed."""

COUNT: Final = 256
"""Entries per read: at 64 KiB each, the most an entry may have, an answer stays below 16 MiB."""

BATCH_BYTES: Final = 256 * 1024

KEEP: Final = 1000
"""The newest entries, which trimming by age leaves, however old they are."""

TRIM_EVERY: Final = 30.0

# A stream without entries is another history, like one without an epoch: it was deleted, flushed
# or emptied, and what was in it is gone. All in one script, so that of several daemons and
# publishers who find it like that only one begins the new history.
LOCATE: Final = """
local epoch = redis.call('GET', KEYS[2])
if not epoch or redis.call('XLEN', KEYS[1]) == 0 then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
  redis.call('XADD', KEYS[1], '*', 'control', '{"start": true}')
end
local first, last
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'first-entry' then first = info[i + 1][1] end
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
return {epoch, first, last}
"""

# LIMIT is the most that XTRIM may remove: with it, and because "~" removes whole nodes only, the
# newest entries stay without our counting back to them through their payloads.
_TRIM: Final = """
local spare = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[2])
if spare <= 0 then return 0 end
local last
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
local oldest = tonumber(string.match(last, '^%d+')) - tonumber(ARGV[1])
if oldest <= 0 then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest), 'LIMIT', spare)
"""


def keys(prefix: str) -> tuple[str, str]:
    """Return the names of the stream and of the epoch; the braces keep both in one Cluster slot."""
    return f"{{{prefix}}}:events", f"{{{prefix}}}:epoch"


async def locate(link: Link, prefix: str) -> tuple[str, str, str]:
    """Return the epoch and the stream's first and last id; begin a history if there is none."""
    epoch, first, last = await link.call("EVAL", LOCATE, 2, *keys(prefix), secrets.token_hex(8))
    return epoch.decode("utf-8", "replace"), first.decode(), last.decode()


def gap(first: str, position: str, last: str) -> str | None:
    """Return why entries behind our position may have been missed, or None if they all follow.

    Trimming takes the oldest entries first, so while one as old as our position is left, none
    behind it was trimmed. When even the first is newer, it can't be told what was: Redis 6.2
    doesn't count removals, and in Redis 7 max-deleted-entry-id tells of XDEL only and stays 0-0
    after XTRIM. So that is a gap. A single entry that an operator removed by XDEL is none.
    """
    if parse_position(last) < parse_position(position):
        return "the stream ends before our position: restored from a copy, or its clock went back"
    if parse_position(first) > parse_position(position):
        return "the stream was trimmed beyond our position"
    return None


def batches(source: Source, entries: Sequence[RawEntry]) -> list[Batch]:
    """Cut entries into batches of at most 256 KiB, which end behind each control entry."""
    found: list[Batch] = []
    room = 0
    for entry in entries:
        size = sum(len(name) + len(value) for name, value in entry[1].items())
        if not found or size > room:
            found.append(Batch(source, []))
            room = BATCH_BYTES
        found[-1].entries.append(entry)
        room = -1 if b"control" in entry[1] else room - size
    return found


def _entries(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    # RESP2: nothing, or one stream: its key and its entries, each an id and a flat list of fields.
    if not answer:
        return []
    return [
        (id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
        for id_, fields in answer[0][1]
    ]


class Follower:
    """Reads the stream, over one link after the other, from wherever it stands.

    Each step() reads once, over a new link if there is none; after an error of it, close(). take()
    returns what came: every entry once and in order, or a Positioned that tells of a gap. `start`
    is an epoch and a position in it; None: the end of whatever the stream is.
    """

    source: Final = "stream"
    lost: Final = None

    def __init__(
        self,
        url: RedisURL,
        stats: BusStats,
        *,
        prefix: str,
        within: float,
        history: float,
        start: tuple[str, str] | None = None,
    ) -> None:
        self._url = url
        self._stats = stats
        self._prefix = prefix
        self._stream = keys(prefix)[0]
        self._within = within
        # Whoever wants to know of a dead link sooner gets probes more often too.
        self._block = min(BLOCK, within)
        self._history = history
        self._trim_every = min(TRIM_EVERY, max(0.1, history / 2))
        self._link: Link | None = None
        self._taken: list[Batch | Positioned] = []
        self._epoch: str | None = None
        self._position = self._last = self._target = ""
        if start is not None:
            self._epoch, self._position = start
        self._probe_due = self._trim_due = math.inf
        self._proven = self._full = False
        self._recovered = 0
        self._may_trim = math.isfinite(history)
        self._may_ask_role = True

    @property
    def ready(self) -> bool:
        """Whether the link works and everything written before it was opened has been read."""
        caught_up = not self._full or parse_position(self._position) >= parse_position(self._target)
        return self._proven and caught_up

    def fields(self) -> dict[str, Any]:
        """Return what the log tells of a link that is ready."""
        return {"epoch": self._epoch, "last_id": self._position, "recovered": self._recovered}

    def take(self) -> list[Batch | Positioned]:
        """Return what came since the last time."""
        taken, self._taken = self._taken, []
        return taken

    async def step(self) -> None:
        """Read what is there, or wait until something comes or the link is to be probed.

        Raises FAULTS.
        """
        if self._link is None:
            await self._begin()
            return
        if time.monotonic() >= self._trim_due and not self._full:
            await self._trim(self._link)
        await self._read(self._link, self._probe_due - time.monotonic())

    async def close(self) -> None:
        """Close the link; the next step opens another."""
        if self.ready:
            self._recovered = 0
        self._proven = False
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _begin(self) -> None:
        link = self._link = await Link.open(self._url, within=self._within)
        self._may_ask_role = True
        await self._require_master(link)
        await self._locate(link)
        self._target = self._last
        self._trim_due = time.monotonic() + self._trim_every
        # Without waiting: that the user may read at all is known before the link counts as up.
        await self._read(link, 0)
        self._proven = True

    async def _read(self, link: Link, wait: float) -> None:
        block = ("BLOCK", math.ceil(wait * 1000)) if wait > 0 else ()
        command = ("XREAD", "COUNT", COUNT, *block, "STREAMS", self._stream, self._position)
        try:
            answer = await link.call(*command, within=self._within + max(0, wait))
        except exceptions.ResponseError as error:
            # The last word of a master that becomes a replica to those who wait.
            if "UNBLOCKED" in str(error):
                raise NotMasterError("the server became a replica") from error
            raise
        self._stats.proofs["stream"] = time.monotonic()
        entries = _entries(answer)
        full = len(entries) == COUNT
        # XREAD skips what was trimmed, and waits for ever at a stream that was deleted. Whoever
        # may be behind, or was held up, learns only here whether these entries are the next.
        if full or time.monotonic() >= self._probe_due:
            if not full:
                await self._require_master(link)
            if not await self._locate(link):
                return
        self._accept(entries, full=full)

    async def _locate(self, link: Link) -> bool:
        """Return whether we may go on from our position; otherwise move it to the end."""
        epoch, first, self._last = await locate(link, self._prefix)
        self._probe_due = time.monotonic() + self._block
        reason = None
        if self._epoch is not None:
            reason = gap(first, self._position, self._last)
            if epoch != self._epoch:
                reason = "the stream has another epoch: flushed, deleted, or another Redis"
            if reason is None:
                return True
            self._stats.gaps += 1
            log.error("bus.gap", reason=reason, epoch=epoch, last_id=self._last)
        self._epoch, self._position, self._target = epoch, self._last, self._last
        self._full = False
        self._taken.append(Positioned(epoch, self._last, reason))
        return False

    async def _require_master(self, link: Link) -> None:
        if not self._may_ask_role:
            return
        try:
            role = (await link.call("ROLE"))[0].decode()
        except exceptions.ResponseError:
            # Some hosted services forbid the question; they cut the links of a demoted master.
            self._may_ask_role = False
            return
        if role != "master":
            raise NotMasterError(f"the server is a {role.replace('slave', 'replica')}")

    def _accept(self, entries: list[tuple[str, dict[bytes, bytes]]], *, full: bool) -> None:
        self._full = full
        if not entries:
            return
        target = parse_position(self._target)
        recovered = sum(parse_position(id_) <= target for id_, _ in entries)
        self._recovered += recovered
        self._stats.recovered += recovered
        self._position = entries[-1][0]
        self._taken += batches("stream", entries)

    async def _trim(self, link: Link) -> None:
        self._trim_due = time.monotonic() + self._trim_every
        if not self._may_trim:
            return
        try:
            age = round(self._history * 1000)
            await link.call("EVAL", _TRIM, 1, self._stream, age, KEEP)
        except exceptions.ResponseError as error:
            self._may_trim = False
            log.warning("bus.untrimmed", **self._url.explain(error))
