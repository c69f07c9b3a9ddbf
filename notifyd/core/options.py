"""The table of options: each one once, with its default, unit, meaning and what it may hold.

The reference page, the sample configuration and the checks all come from here, by way of
`option_table`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from notifyd.core import kinds
from notifyd.core.kinds import SECONDS, Kind, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def option(default: T, unit: str, meaning: str, kind: Kind, *, secret: bool = False) -> T:
    """Declare an option; a secret may come from a file or a credential and is never shown."""
    metadata = {"unit": unit, "meaning": meaning, "kind": kind, "secret": secret}
    # A secret stays out of repr() too: tracebacks and debug output show those.
    declared: Any = field(default=default, repr=not secret, metadata=metadata)
    return declared  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The listeners for browsers, and what one client may cost."""

    listen: tuple[str, ...] = option(
        ("localhost:8888",),
        "",
        "Where browsers, or the proxy in front, connect. localhost is both 127.0.0.1 and ::1.",
        kinds.ADDRESS,
    )
    origins: tuple[str, ...] = option(
        (),
        "",
        "Origins of the pages that may connect. Empty: localhost, 127.0.0.1 and [::1] on any port,"
        " and only while nothing but loopback and Unix sockets is listened on. A client that sends"
        " no Origin is no browser and is not held to this.",
        kinds.ORIGIN,
    )
    path: str = option("", "", "The only path of the URL that is served. Empty: any.", kinds.PATH)
    trusted_proxies: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        "",
        "Peers whose X-Forwarded-For is believed when the client's address is needed; unix is"
        " whoever connects through a Unix socket.",
        kinds.PROXY,
    )
    handshake_timeout: float = option(10.0, "s", "Time for the opening handshake.", SECONDS)
    hello_timeout: float = option(
        10.0, "s", "Time from the handshake to the client's first message.", SECONDS
    )
    ping_interval: float = option(
        25.0,
        "s",
        "How often each client is pinged. Proxies cut links that are idle for 30 to 120 s.",
        SECONDS,
    )
    ping_timeout: float = option(
        20.0, "s", "A client that has not answered a ping by then is dropped.", SECONDS
    )
    close_timeout: float = option(5.0, "s", "Time for the closing handshake.", SECONDS)
    max_connections: int = option(
        0, "connections", "Most clients at a time. 0: as many as descriptors allow.", numbers(0)
    )
    max_connections_per_address: int = option(
        0, "connections", "Most clients at a time from one address. 0: no limit.", numbers(0)
    )
    max_connections_per_user: int = option(
        0, "connections", "Most clients at a time of one user. 0: no limit.", numbers(0)
    )
    max_message: int = option(
        4096, "bytes", "Longest message a client may send. A token must fit.", numbers(256)
    )
    messages_per_second: float = option(
        10.0, "1/s", "Messages one client may send in a second.", numbers(0, above=True)
    )
    buffer: int = option(
        262_144,
        "bytes",
        "What one client may owe. From then on it is behind: fed from the history as it takes it.",
        numbers(65_536),
    )
    bare_buffer: int = option(
        1_048_576,
        "bytes",
        "What a client may owe that sent a bare token, and so can't be behind, before it is closed"
        " as too slow.",
        numbers(65_536),
    )
    progress_timeout: float = option(
        20.0,
        "s",
        "A client that is behind and has taken nothing for so long is closed as too slow.",
        SECONDS,
    )
    history: int = option(
        33_554_432,
        "bytes",
        "What is kept of the stream in memory, for clients that are behind. Redis is asked for"
        " what is older.",
        numbers(1_048_576),
    )
    total_buffer: int = option(
        268_435_456,
        "bytes",
        "What all clients together may owe before the worst of them are closed.",
        numbers(65_536),
    )
    drain: float = option(
        5.0,
        "s",
        "When the daemon stops, each client is told to come back after a random part of this time,"
        " so that they do not return all at once.",
        numbers(0, kinds.DAY),
    )


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
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Django:
    """The site whose users connect."""

    settings: str = option(
        "", "", "The site's settings module. Empty: DJANGO_SETTINGS_MODULE.", kinds.MODULE
    )
    path: str = option(
        "",
        "",
        "Directory put in front of Python's search path, so that the settings can be imported."
        " Empty: the working directory, behind everything else.",
        kinds.DIRECTORY,
    )
    cache: str = option(
        "default",
        "",
        "The alias in the site's CACHES whose address serves when neither redis.url nor the site's"
        ' NOTIFYD["REDIS_URL"] names one.',
        kinds.WORD,
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
        20.0, "s", "Time for one authentication, from the token to the permissions.", SECONDS
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
    )
    ticket_ttl: float = option(
        900.0,
        "s",
        "How long a ticket admits a client that comes back, without a token. 0: no tickets.",
        numbers(0, kinds.DAY),
    )
    sweep: float = option(
        300.0,
        "s",
        "How often what each connected user may see is read anew, whatever was signalled.",
        SECONDS,
    )
    failures_per_second: float = option(
        10.0,
        "1/s",
        "Failed authentications from one address that are allowed in the long run.",
        numbers(0, above=True),
    )
    failures_burst: int = option(
        100,
        "failures",
        "Failed authentications that one address may have at once. Many users can share one.",
        numbers(1),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """What is logged and how."""

    level: str = option(
        "info",
        "",
        "The least severe events that are logged.",
        kinds.choice("debug", "info", "warning", "error", "critical"),
    )
    format: str = option(
        "auto",
        "",
        "auto is the journal's own protocol under systemd, colours on a terminal, and else JSON"
        " lines.",
        kinds.choice("auto", "json", "console", "journal"),
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
