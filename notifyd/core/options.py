"""The table of options: each one once, with its default, unit, meaning and what it may hold.

The reference page, the sample configuration and the checks all come from here, by way of
`option_table`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notifyd.core import kinds
from notifyd.core.kinds import SECONDS, numbers
from notifyd.core.levels import LEVELS
from notifyd.core.option_field import option
from notifyd.core.options_django import Django
from notifyd.core.options_server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Admin", "Auth", "Config", "Control", "Django", "Log", "Redis", "Server"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Admin:
    """The listener for metrics and health checks."""

    listen: str = option(
        "127.0.0.1:9488",
        "",
        "Where /metrics, /livez and /readyz are served. It asks nobody who they are: keep it on"
        " loopback or behind a firewall.",
        kinds.ADDRESS,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """The socket behind `notifyd status` and its like."""

    socket: str = option(
        "",
        "",
        "Path of the control socket. Empty: $RUNTIME_DIRECTORY/control, else"
        " $XDG_RUNTIME_DIR/notifyd/control.",
        kinds.CONTROL,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Redis:
    """The event bus."""

    url: str = option(
        "",
        "",
        'The Redis the site publishes to. Empty: the site\'s NOTIFYD["REDIS_URL"], or else the'
        " address of its cache (see django.cache).",
        kinds.REDIS_URL,
        secret=True,
        reload=True,
    )
    prefix: str = option(
        "notifyd", "", "First part of the stream's keys: {prefix}:events.", kinds.PREFIX
    )
    channel: str = option(
        "events", "", "Pub/Sub channel that is read beside the stream.", kinds.WORD
    )
    history: float = option(
        600.0,
        "s",
        "How long the stream keeps events. A shorter outage of Redis loses none, as long as the"
        " publishers' limit of entries reaches back as far.",
        numbers(0, 30 * kinds.DAY, above=True),
    )
    timeout: float = option(
        5.0, "s", "An answer from Redis later than this means a dead link.", SECONDS
    )
    maxlen: int = option(
        100_000,
        "entries",
        "Roughly the most entries that `notifyd publish` leaves in the stream.",
        numbers(1),
        reload=True,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Auth:
    """Who connects: tokens and the database."""

    threads: int = option(
        8,
        "threads",
        "Users that are looked up at a time; each thread has its own database connection.",
        numbers(1),
    )
    timeout: float = option(
        20.0,
        "s",
        "Time for one authentication, from the token to the permissions.",
        SECONDS,
        reload=True,
    )
    statement_timeout: float = option(
        5.0, "s", "Time for one query, and for connecting to the database.", SECONDS
    )
    unscoped: bool = option(
        True,
        "",
        "Accept a token without the scope notifyd as a bare first message, as a site that follows"
        " the guide sends it. Such a token may be good for logging in to the site, too.",
        kinds.BOOLEAN,
    )
    lifetime: float = option(
        43_200.0,
        "s",
        "How long a connection, and those that follow it by tickets, may last until a new token"
        " is due; for each up to a fifth less, so that those who came together don't go together.",
        numbers(0, 30 * kinds.DAY, above=True),
        reload=True,
    )
    ticket_ttl: float = option(
        900.0,
        "s",
        "How long a ticket admits a client that comes back, without a token. 0: no tickets.",
        numbers(0, kinds.DAY),
        reload=True,
    )
    sweep: float = option(
        300.0,
        "s",
        "How often what each connected user may see is read anew, whatever was signalled.",
        SECONDS,
        reload=True,
    )
    failures_per_second: float = option(
        10.0,
        "1/s",
        "Failed authentications from one address that are allowed in the long run.",
        numbers(0, above=True),
        reload=True,
    )
    failures_burst: int = option(
        100,
        "failures",
        "Failed authentications that one address may have at once. Many users can share one.",
        numbers(1),
        reload=True,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """What is logged and how."""

    level: str = option(
        "info",
        "",
        "The least severe events that are logged.",
        kinds.choice(*LEVELS),
        reload=True,
    )
    levels: tuple[str, ...] = option(
        (),
        "",
        "Other levels for parts of the log, like auth=debug. A part is the first word of an event's"
        " name, or a library: asyncio, django, redis, websockets.",
        kinds.LEVEL,
        reload=True,
    )
    fold: float = option(
        10.0,
        "s",
        "Lines of one kind, like those of bad tokens, are told once in this time, with how many"
        " there were; those of users and of parts at level debug are all told. 0: every line.",
        numbers(0, kinds.DAY),
        reload=True,
    )
    format: str = option(
        "auto",
        "",
        "auto is the journal's own protocol under systemd, colours on a terminal, and else JSON"
        " lines.",
        kinds.choice("auto", "json", "console", "journal"),
        reload=True,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The whole configuration. `sources` says where each option that was set came from."""

    server: Server = field(default_factory=Server)
    admin: Admin = field(default_factory=Admin)
    control: Control = field(default_factory=Control)
    redis: Redis = field(default_factory=Redis)
    django: Django = field(default_factory=Django)
    auth: Auth = field(default_factory=Auth)
    log: Log = field(default_factory=Log)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
