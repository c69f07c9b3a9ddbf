"""One connection to Redis, where it leads, and words for what goes wrong with it.

A Link is opened once and never mends itself: after its first error whoever uses it closes it and
opens another. The clients of redis-py reconnect between two commands without a word, and what was
published meanwhile would be missed unseen; so this module uses their connections, not the clients.
"""

from __future__ import annotations

import asyncio
import errno
import math
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

# ValueError: what is at the other end may be no Redis, and its answer no number.
FAULTS: Final = (exceptions.RedisError, OSError, ValueError)
"""Whatever may go wrong with a link, wrong passwords and frozen servers included."""

_SENTINEL: Final = "Sentinel addresses are not supported yet: give the master's own address"
_CLUSTER: Final = "Redis Cluster is not supported yet: give the address of a single Redis"

# What is looked for in an error's class and text, and what to do about it. An error inside a script
# keeps its code only somewhere in the text: at its start in Redis 7, in the middle in 6.2.
_HINTS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("AuthenticationError", "NOAUTH"), "check the user and the password in [redis] url"),
    (
        ("NoPermissionError", "NOPERM", "ACL failure", "user executing the script"),
        (
            "let this user run eval, exists, get, publish, role, select, set, subscribe, xadd,"
            " xinfo, xlen, xrange, xread, xrevrange, xtrim on keys {PREFIX}:* and channels"
            " {PREFIX}:canary:* and [redis] channel"
        ),
    ),
    (
        ("WRONGTYPE",),
        "another program uses a key of the bus: delete it, or choose another [redis] prefix",
    ),
    (("ReadOnlyError", "READONLY"), "this is a read-only replica: give its master's address"),
    (("OutOfMemoryError", "OOM command"), "Redis is full: raise its maxmemory"),
    (("MISCONF",), "Redis can't save its data: look at its log and its disk"),
    (("MovedError", "AskError", "ClusterDownError", "CROSSSLOT"), _CLUSTER),
    (("unknown command", "syntax error"), "Redis 6.2 is the oldest supported"),
    (("CERTIFICATE_VERIFY_FAILED",), "name its authority: rediss://...?ssl_ca_certs=FILE"),
)

_REFUSED: Final = re.compile(rf"Err(or|no) {errno.ECONNREFUSED}\b")


class NoAnswerError(TimeoutError):
    """Redis did not answer in time."""


class NotMasterError(ConnectionError):
    """The server at the other end is no master."""


class RedisURL:
    """The address of a Redis server and how to log in there.

    str() of it is fit for a log. Raises ValueError with the words of check_url.
    """

    def __init__(self, url: str) -> None:
        self.become(url)

    def become(self, url: str) -> None:
        """Be another address, for all who have this one, at their next connection."""
        self._options = _parse(url)
        self._kind: type[AbstractConnection] = self._options.pop("connection_class", Connection)

    def __str__(self) -> str:
        database = self._options.get("db", 0)
        if self._kind is UnixDomainSocketConnection:
            return f"unix://{self._options['path']}?db={database}"
        scheme = "rediss" if self._kind is SSLConnection else "redis"
        host = self._options.get("host", "localhost")
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{self._options.get('port', 6379)}/{database}"

    def connection(self, within: float) -> AbstractConnection:
        """Return a connection that is not open yet; more seconds without an answer are too many."""
        options = self._options | {
            # All limits are the Link's. The library's own for writing is asyncio.wait_for(), which
            # up to Python 3.11 swallows a cancellation that comes when the writing is done.
            "socket_connect_timeout": None,
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            # The shapes of answers are RESP2's, whatever version of redis-py asks for them.
            "protocol": 2,
        }
        if issubclass(self._kind, Connection):
            options["socket_keepalive"] = True
            # Keepalive stops while data is unacknowledged: that has a time limit of its own, in
            # milliseconds (tcp(7)).
            options["socket_keepalive_options"] = {
                socket.TCP_KEEPIDLE: 15,
                socket.TCP_KEEPINTVL: 5,
                socket.TCP_KEEPCNT: 3,
                socket.TCP_USER_TIMEOUT: math.ceil(within * 1000),
            }
        return self._kind(**options)

    def explain(self, error: Exception) -> dict[str, str]:
        """Return what went wrong as fields of a log line: `error`, and `hint` if there is one."""
        # On a Unix socket redis-py wraps what Redis answered to the log-in.
        cause = error.__cause__
        if isinstance(error, exceptions.RedisError) and isinstance(cause, exceptions.RedisError):
            error = cause
        text = " ".join(str(error).split()) or type(error).__name__
        # Of a connection that is refused asyncio and redis-py tell no more than the number.
        if _REFUSED.search(text):
            text = "Connection refused"
        evidence = f"{type(error).__name__} {text}"
        hints = (hint for marks, hint in _HINTS if any(mark in evidence for mark in marks))
        fields = {"error": self._without_password(text)[:300]}
        if hint := next(hints, None):
            fields["hint"] = hint
        return fields

    def _without_password(self, text: str) -> str:
        # A server that doesn't know AUTH repeats its arguments.
        password = self._options.get("password")
        return text.replace(password, "***") if password else text


def describe(url: RedisURL, error: Exception) -> str:
    """Return where what went wrong, and what to do about it, in one line."""
    return f"{url}: " + ": ".join(url.explain(error).values())


def check_url(url: str) -> str | None:
    """Return what is wrong with the address in words, without any part of it, or None."""
    try:
        _parse(url)
    except ValueError as error:
        return str(error)
    return None


def _parse(url: str) -> dict[str, Any]:
    # The library's own messages may show a piece of the password: none of them gets out.
    scheme = url.partition(":")[0].lower()
    if "sentinel" in scheme:
        raise ValueError(_SENTINEL)
    if "cluster" in scheme:
        raise ValueError(_CLUSTER)
    if scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if "," in url.partition("://")[2].partition("/")[0].rpartition("@")[2]:
        raise ValueError(f"names several hosts; {_SENTINEL}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            "not a valid URL: the port must be a number, and special characters in the password"
            " percent-encoded"
        ) from None
    if port is not None and not host:
        raise ValueError("names a port but no host, or the password has a character that ends it")
    if parts.fragment:
        raise ValueError('a "#" in the password must be written %23')
    if scheme == "unix" and (host or not parts.path):
        raise ValueError("must name the socket with three slashes: unix:///run/redis/redis.sock")
    database = parts.path.strip("/")
    if scheme != "unix" and database and not database.isdecimal():
        raise ValueError("the database, behind the host, must be a number")
    return _options(url, encrypted=scheme == "rediss")


def _options(url: str, *, encrypted: bool) -> dict[str, Any]:
    # A URL written for a cache may set timeouts, retries or decoding, which are ours to decide.
    wanted = {"connection_class", "db", "host", "password", "path", "port", "username"}
    try:
        options: dict[str, Any] = {
            name: value
            for name, value in parse_url(url).items()
            if name in wanted or (encrypted and name.startswith("ssl_"))
        }
        arguments = {name: options[name] for name in options if name != "connection_class"}
        options.get("connection_class", Connection)(**arguments)
    except (exceptions.RedisError, TypeError, ValueError):
        raise ValueError(
            "an option behind the question mark is unknown or has no such value"
        ) from None
    return options


class Link:
    """One open connection. After any error but a ResponseError only close() is left to call."""

    def __init__(self, connection: AbstractConnection, within: float) -> None:
        # Its own types stop half-way.
        self._connection: Any = connection
        self._within = within

    @classmethod
    async def open(cls, url: RedisURL, *, within: float) -> Self:
        """Connect and log in. An answer must come within so many seconds. Raises FAULTS."""
        link = cls(url.connection(within), within)
        try:
            async with asyncio.timeout(within):
                await link._connection.connect()
            # A user who may not name his connections is served all the same.
            with suppress(exceptions.ResponseError):
                await link.call("CLIENT", "SETNAME", "notifyd")
        except TimeoutError:
            await link.close()
            raise NoAnswerError(f"no connection within {within:.3g} s") from None
        except (Exception, asyncio.CancelledError):
            await link.close()
            raise
        return link

    async def call(self, *command: bytes | str | int, within: float | None = None) -> Any:
        """Return the answer to a command, which must come within so many seconds."""
        limit = within or self._within
        try:
            async with asyncio.timeout(limit):
                await self._connection.send_command(*command)
                return await self._connection.read_response()
        except TimeoutError:
            raise NoAnswerError(f"no answer within {limit:.3g} s") from None

    async def send(self, *command: bytes | str | int) -> None:
        """Send a command whose answers receive() returns."""
        await self._connection.send_command(*command)

    async def receive(self, within: float) -> Any:
        """Return the next answer, or None if none came within so many seconds.

        With 0 it returns what is already there. An answer that came in part is not lost.
        """
        try:
            async with asyncio.timeout(within):
                return await self._connection.read_response(disconnect_on_error=False)
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Close the connection; may be called at any time, also twice."""
        with suppress(*FAULTS):
            async with asyncio.timeout(self._within):
                await self._connection.disconnect()
