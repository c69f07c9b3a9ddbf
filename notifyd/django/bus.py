"""The way to the bus: a client of Redis that never keeps a request waiting for long.

What can go wrong, beneath `BusError`:

- `PublishError`: the events were not written;
- `PublishUnknown`: they may have been. It is not a kind of the former, because who repeats what
  failed must not repeat this.
"""

from __future__ import annotations

import enum
import math
import time
from typing import TYPE_CHECKING, Any, Final

from django.core.signals import setting_changed
from redis.connection import ConnectionPool
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)

from notifyd.django.address import options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from notifyd.django.settings import Settings

    Fields = Mapping[bytes, bytes]

REST: Final = 5.0
"""Seconds for which nobody tries again after Redis was down."""

SETTINGS: Final = {"NOTIFYD", "CACHES", "DJANGO_REDIS_CONNECTION_FACTORY"}
"""What decides where the bus is."""

# ValueError: what is at the other end may be no Redis; and a name that is no host's.
_FAULTS: Final = (RedisError, OSError, ValueError)

# Answers, though redis-py takes them for failures of the connection.
_ANSWERS: Final = (AuthenticationError, AuthorizationError, BusyLoadingError)

# A script, because the answer of XINFO itself has the first and the last entry in it.
_LOCATE: Final = """
local epoch = redis.call('GET', KEYS[2])
if not epoch or redis.call('EXISTS', KEYS[1]) == 0 then return false end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then return {epoch, info[i + 1]} end
end
"""


class Reason(enum.StrEnum):
    """Why an event was not published, or may not have been."""

    REJECTED = "rejected"
    ADDRESS = "address"
    WITHHELD = "withheld"
    SUSPENDED = "suspended"
    CONNECTION = "connection"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class BusError(Exception):
    """Something went wrong with `count` events; the text names no secret and quotes no event."""

    def __init__(self, reason: Reason, text: str, count: int = 1) -> None:
        super().__init__(text)
        self.reason = reason
        self.count = count


class PublishError(BusError):
    """The event was not written to the bus: nobody gets it."""


class PublishUnknown(BusError):  # noqa: N818 - named like what is known of the event
    """Redis got the event, or part of it, and did not answer: it may have been written or not."""


class Breaker:
    """Keeps requests from waiting for a Redis that is down, one after the other.

    All times are in seconds of one clock, given by the caller.
    """

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._until = -math.inf
        self._broken = False

    def allows(self, now: float) -> bool:
        """Tell whether to try: always, but after a failure one at a time and after a rest."""
        if now < self._until:
            return False
        if self._broken:
            # Whoever asks meanwhile would have to wait as long as this one.
            self._until = now + self._rest
        return True

    def failed(self, now: float) -> None:
        """Take note that Redis is down."""
        self._broken = True
        self._until = now + self._rest

    def worked(self) -> None:
        """Take note that Redis answers."""
        self._broken = False
        self._until = -math.inf


class Bus:
    """The stream at an address of Redis, given as what ConnectionPool takes."""

    def __init__(self, address: Mapping[str, Any], *, prefix: str, history: int) -> None:
        self._pool = ConnectionPool(**address)
        self._password = str(address.get("password") or "")
        key = stream_key(prefix)
        self._xadd = ("XADD", key, "MAXLEN", "~", history, "*")
        self._locate = ("EVAL", _LOCATE, 2, key, epoch_key(prefix))
        self._breaker = Breaker(REST)

    def write(self, entries: Sequence[Fields], *, anyway: bool = False) -> list[str]:
        """Add entries to the stream, in one round trip, and return their ids.

        Raises PublishError or PublishUnknown. Of several entries some may have been written all the
        same; the exception has the number of the others. `anyway` means to try even if Redis was
        down a moment ago.
        """
        ids = self._call([self._command(entry) for entry in entries], anyway=anyway)
        return [id_.decode() for id_ in ids]

    def position(self) -> tuple[str, str] | None:
        """Return the epoch of the bus and the id of its newest entry, None if it has no history.

        Raises PublishError or PublishUnknown, as it is no different from writing.
        """
        [found] = self._call([self._locate])
        if found is None:
            return None
        epoch, last = found
        return epoch.decode("utf-8", "replace"), last.decode()

    def close(self) -> None:
        """Close the connections."""
        self._pool.disconnect()

    def _call(self, commands: Sequence[tuple[Any, ...]], *, anyway: bool = False) -> list[Any]:
        if not anyway and not self._breaker.allows(time.monotonic()):
            text = f"Redis was down less than {REST:g} s ago"
            raise PublishError(Reason.SUSPENDED, text, len(commands))
        try:
            answers = self._exchange(commands)
        except BusError as error:
            if error.reason is Reason.REFUSED:
                self._breaker.worked()
            else:
                self._breaker.failed(time.monotonic())
            raise
        self._breaker.worked()
        return answers

    def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        count = len(commands)
        try:
            # A connection that was closed meanwhile is noticed here, and made anew.
            connection: Any = self._pool.get_connection()
        except _FAULTS as error:
            reason = Reason.REFUSED if isinstance(error, _ANSWERS) else Reason.CONNECTION
            # Not chained, here and below: only _words() takes out what nobody may read.
            raise PublishError(reason, self._words(error), count) from None
        answers: list[Any] = []
        refusals: list[ResponseError] = []
        complete = False
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except ResponseError as error:
                    refusals.append(error)
                else:
                    count -= 1
            complete = not refusals
        except _ANSWERS as error:
            raise PublishError(Reason.REFUSED, self._words(error), count) from None
        except _FAULTS as error:
            raise PublishUnknown(Reason.UNKNOWN, self._words(error), count) from None
        finally:
            # Answers may still be on their way to whoever uses it next; and one that was refused
            # may be connected to a master of former days.
            if not complete:
                connection.disconnect()
            self._pool.release(connection)
        if refusals:
            raise PublishError(Reason.REFUSED, self._words(refusals[0]), count)
        return answers

    def _command(self, entry: Fields) -> tuple[Any, ...]:
        return (*self._xadd, *(word for pair in entry.items() for word in pair))

    def _words(self, error: Exception) -> str:
        # A server that doesn't know a command repeats its arguments.
        text = str(error).partition(", with args")[0]
        if self._password:
            text = text.replace(self._password, "***")
        return f"{type(error).__name__}: {text}"


def stream_key(prefix: str) -> str:
    """Return the name of the stream; the braces keep all keys of a bus in one Cluster slot."""
    return f"{{{prefix}}}:events"


def epoch_key(prefix: str) -> str:
    """Return the name of what tells one history of the stream from another."""
    return f"{{{prefix}}}:epoch"


_buses: dict[Settings, Bus] = {}


def connect(settings: Settings) -> Bus:
    """Return the process's way to the bus that the settings name. Connects to nobody yet.

    Raises ImproperlyConfigured if there is no address.
    """
    bus = _buses.get(settings)
    if bus is None:
        made = Bus(options(settings), prefix=settings.prefix, history=settings.history)
        # Of two threads who come here at once, one makes a bus in vain: it has no connection yet.
        bus = _buses.setdefault(settings, made)
    return bus


def _forget(*, setting: str, **_: object) -> None:
    """Start afresh when a test changes where the bus is."""
    if setting in SETTINGS:
        while _buses:
            _buses.popitem()[1].close()


setting_changed.connect(_forget, dispatch_uid="notifyd.bus")
