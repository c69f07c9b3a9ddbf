"""The options of the public WebSocket server."""

from __future__ import annotations

from dataclasses import dataclass

from notifyd.core import kinds
from notifyd.core.kinds import SECONDS, numbers
from notifyd.core.option_field import option


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The listeners for browsers, and what one client may cost."""

    listen: tuple[str, ...] = option(
        ("localhost:8888",),
        "",
        "Where browsers, or the proxy in front, connect. localhost is both 127.0.0.1 and ::1;"
        " systemd:NAME are the sockets of the unit with FileDescriptorName=NAME.",
        kinds.ADDRESS,
    )
    reuse_port: bool = option(
        False,
        "",
        "Let other daemons listen at the same addresses, and have the kernel share the connections"
        " out. Sockets of systemd have ReusePort= for it.",
        kinds.BOOLEAN,
    )
    origins: tuple[str, ...] = option(
        (),
        "",
        "Origins of the pages that may connect. Empty: localhost, 127.0.0.1 and [::1] on any port,"
        " and only while nothing but loopback and Unix sockets is listened on. A client that sends"
        " no Origin is no browser and is not held to this.",
        kinds.ORIGIN,
        reload=True,
    )
    path: str = option(
        "",
        "",
        "The only path of the URL that is served. Empty: any.",
        kinds.PATH,
        reload=True,
    )
    trusted_proxies: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        "",
        "Peers whose X-Forwarded-For is believed when the client's address is needed; unix is"
        " whoever connects through a Unix socket.",
        kinds.PROXY,
        reload=True,
    )
    handshake_timeout: float = option(
        10.0,
        "s",
        "Time for the opening handshake.",
        SECONDS,
        reload=True,
    )
    hello_timeout: float = option(
        10.0,
        "s",
        "Time from the handshake to the client's first message.",
        SECONDS,
        reload=True,
    )
    ping_interval: float = option(
        25.0,
        "s",
        "How often each client is pinged. Proxies cut links that are idle for 30 to 120 s.",
        SECONDS,
    )
    ping_timeout: float = option(
        20.0,
        "s",
        "A client that has not answered a ping by then is dropped.",
        SECONDS,
        reload=True,
    )
    close_timeout: float = option(
        5.0,
        "s",
        "Time for the closing handshake.",
        SECONDS,
        reload=True,
    )
    max_connections: int = option(
        0,
        "connections",
        "Most clients at a time. 0: as many as descriptors allow.",
        numbers(0),
        reload=True,
    )
    max_connections_per_address: int = option(
        0,
        "connections",
        "Most clients at a time from one address. 0: no limit.",
        numbers(0),
        reload=True,
    )
    max_connections_per_user: int = option(
        0,
        "connections",
        "Most clients at a time of one user. 0: no limit.",
        numbers(0),
        reload=True,
    )
    acknowledge: float = option(
        0.01,
        "",
        "The part of the events that a page is asked to acknowledge, once a second at most, for"
        " notifyd_client_latency_seconds. 0: none. A page goes by it from its next connection on.",
        numbers(0, 1),
        reload=True,
    )
    max_message: int = option(
        4096,
        "bytes",
        "Longest message a client may send. A token must fit.",
        numbers(256),
        reload=True,
    )
    messages_per_second: float = option(
        10.0,
        "1/s",
        "Messages one client may send in a second.",
        numbers(0, above=True),
        reload=True,
    )
    buffer: int = option(
        262_144,
        "bytes",
        "What one client may owe. From then on it is behind: fed from the history as it takes it.",
        numbers(65_536),
        reload=True,
    )
    bare_buffer: int = option(
        1_048_576,
        "bytes",
        "What a client may owe that sent a bare token, and so can't be behind, before it is closed"
        " as too slow.",
        numbers(65_536),
        reload=True,
    )
    progress_timeout: float = option(
        20.0,
        "s",
        "A client that is behind and has taken nothing for so long is closed as too slow.",
        SECONDS,
        reload=True,
    )
    history: int = option(
        33_554_432,
        "bytes",
        "What is kept of the stream in memory, for clients that are behind. Redis is asked for"
        " what is older.",
        numbers(1_048_576),
        reload=True,
    )
    total_buffer: int = option(
        268_435_456,
        "bytes",
        "What all clients together may owe before the worst of them are closed.",
        numbers(65_536),
        reload=True,
    )
    drain: float = option(
        5.0,
        "s",
        "When the daemon stops, each client is told to come back after a random part of this time,"
        " so that they do not return all at once.",
        numbers(0, kinds.DAY),
        reload=True,
    )
