"""The table of log events: each one once, with its level, its fields, and what to do about it.

The reference page comes from here. An event's name is `noun.verb`; users are named by primary key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class LogEvent(NamedTuple):
    """A line of the reference: what an event says and what an operator does about it.

    Lines of the event that have the same values in the fields `alike`, and name no user, are of a
    kind, and folded if they repeat; None: each is told. `id` is the MESSAGE_ID by which the journal
    finds a key event (systemd.journal-fields(7)): it stays as it is for all times.
    """

    level: str
    fields: tuple[str, ...]
    meaning: str
    action: str = "Nothing."
    alike: tuple[str, ...] | None = None
    id: str | None = None


EVENTS: Final[Mapping[str, LogEvent]] = {
    "service.starting": LogEvent(
        "info", ("version", "pid"), "The configuration is valid; the parts are being built."
    ),
    "service.started": LogEvent(
        "info",
        ("redis",),
        "All listeners are open; `redis` tells whether it answers.",
        id="ca81628552f14fdbbbe4dd77db72ebfb",
    ),
    "service.stopping": LogEvent(
        "info",
        ("connections",),
        "Asked to stop: clients are told to come back, then closed.",
    ),
    "service.stopped": LogEvent(
        "info",
        (),
        "Everything is closed; the process ends.",
        id="dfabf84cf04943249c017391d69372b5",
    ),
    "listener.unused": LogEvent(
        "warning",
        ("name", "address"),
        "systemd has passed a socket at which nothing in the configuration listens: it is closed"
        " here, and whoever connects to it waits in vain.",
        'Write listen = ["systemd:NAME"] with that name, or take the socket unit away.',
    ),
    "handover.prepared": LogEvent(
        "info",
        ("clients", "closed", "last_id", "seconds"),
        "A successor gets the clients, as of the position `last_id`. Those that owed bytes, or were"
        " in the middle of a message, were closed.",
    ),
    "handover.failed": LogEvent(
        "error",
        ("detail",),
        "The successor, or the service manager, did not take the clients: they have to come back.",
        "Read `detail`. Under systemd, the unit has to have FileDescriptorStoreMax=.",
        id="7affe39a525749ec9afd88cbbf86a2b0",
    ),
    "handover.taken": LogEvent(
        "info",
        ("clients", "refused", "lost", "last_id", "seconds"),
        "The clients of the predecessor are here, and get what came behind `last_id`.",
    ),
    "handover.unreadable": LogEvent(
        "error",
        ("detail",),
        "What the predecessor left can't be understood: its clients are closed with 1012, and come"
        " back by themselves.",
        "Nothing, after a step back to an older version; else report it as a bug.",
    ),
    "handover.alone": LogEvent(
        "warning",
        ("path",),
        "No daemon runs whose clients could be taken over: this one just starts.",
        "Nothing, if it is the first; else compare `path` with [control] socket of the other one.",
    ),
    "service.failed": LogEvent(
        "critical",
        ("error", "traceback"),
        "The daemon ends because of a fault that it can't mend.",
        "Read `error`; without an explanation there, report `traceback` as a bug.",
        id="93a25ecebee44b6dbc359093bdddcde8",
    ),
    "service.error": LogEvent(
        "error",
        ("message", "error"),
        "A part of the daemon failed in an unforeseen way; the others go on.",
        "Report it as a bug.",
        id="acdd97860471480f977537d401cd8fae",
    ),
    "tracing.started": LogEvent(
        "info", (), "Spans of events are made and sent, as OpenTelemetry's variables ask for."
    ),
    "tracing.unavailable": LogEvent(
        "warning",
        ("detail",),
        "OpenTelemetry's variables ask for spans, and none can be sent; events are relayed.",
        "Do what `detail` says, or unset the variables; then restart.",
    ),
    "config.warned": LogEvent(
        "warning",
        ("detail",),
        "The configuration can be used, but has an unknown key, which is ignored, or a risk.",
        "Do what `detail` says: it names the nearest known key, or the option that is risky.",
    ),
    "config.reloaded": LogEvent(
        "info",
        ("changed", "waiting"),
        "The configuration was read anew: the options that have changed, and those that have"
        " changed in the file but wait for a restart.",
        "If some wait: restart the daemon, which disconnects nobody.",
        id="fc613fa8b9ce40e287227bd7f03aad6a",
    ),
    "config.rejected": LogEvent(
        "error",
        ("faults",),
        "The configuration was read anew and can't be used: nothing has changed.",
        "Mend what `faults` name, and reload again.",
        id="a8f67887e6a749d9a7121bd4b7aa11ed",
    ),
    "bus.connected": LogEvent(
        "info",
        ("source", "address", "epoch", "last_id", "recovered", "outage", "lost"),
        "Redis answers; events flow.",
        id="fc86be6e020b4eef9386ed37f8e9eb6f",
    ),
    "bus.disconnected": LogEvent(
        "warning",
        ("source", "address", "error", "hint", "retry_in"),
        "Redis is out of reach; clients stay connected and wait for the next attempt.",
        "If it repeats, look at Redis and at the address in [redis] url.",
        id="91236f503b90420ba9900a4e4bbe3f03",
    ),
    "bus.demoted": LogEvent(
        "warning",
        ("source", "address", "error", "hint", "retry_in"),
        "The Redis server at the other end became a replica; its master is looked for.",
        "After a planned failover nothing; otherwise look at the failover's cause.",
        id="2cd36676d32b4158aebf9f8048c00816",
    ),
    "bus.gap": LogEvent(
        "error",
        ("reason", "epoch", "last_id"),
        "Events may have been lost; the clients were told to load their state anew.",
        "Raise [redis] history or the stream's length if outages last longer than they reach.",
        id="daddfd758ceb40e79b5ff93412a8c654",
    ),
    "bus.untrimmed": LogEvent(
        "warning",
        ("error", "hint"),
        "Redis does not let the daemon trim the stream; only its length bounds it.",
        "Allow the daemon's Redis user to run scripts, or bound the length at the publishers.",
    ),
    "event.rejected": LogEvent(
        "warning",
        ("reason", "detail", "id", "source"),
        "An entry of the bus is no valid event; no client got it.",
        "Find its publisher and mend what `detail` names.",
        alike=("reason", "source"),
    ),
    "listener.opened": LogEvent(
        "info", ("address", "serves"), "Connections are accepted at `address`."
    ),
    "listener.paused": LogEvent(
        "error",
        ("address", "error", "retry_in"),
        "Out of file descriptors: new connections wait in the kernel's queue.",
        "Raise LimitNOFILE= of the unit, or set [server] max_connections below it.",
        alike=("address",),
        id="92ac665c0dbd460d8d17a44532fff29b",
    ),
    "connection.opened": LogEvent("debug", ("address", "connection"), "A client has connected."),
    "connection.closed": LogEvent(
        "info",
        ("code", "reason", "seconds", "events", "user", "address", "connection"),
        "A connection is over; the one line that tells its whole story.",
        alike=("code",),
        id="957638c03e2846b594e625b3bf4f2735",
    ),
    "connection.refused": LogEvent(
        "warning",
        ("reason", "detail", "address", "origin", "hint", "connection"),
        "A request did not become a WebSocket.",
        "If `origin` is a site of yours, add the line in `hint` to the configuration.",
        alike=("reason",),
    ),
    "client.behind": LogEvent(
        "info",
        ("owed", "user", "address", "connection"),
        "A client owes so much that it is fed from the history from now on, as it takes it.",
        "One is a bad link; many are too many events, or too large ones.",
    ),
    "client.slow": LogEvent(
        "warning",
        ("detail", "owed", "user", "address", "connection"),
        "A client did not take its events in time and is closed with 4420.",
        "One is a bad link; many are too many events, or too large ones.",
        id="916fffa1e4e444758a18a77406afc400",
    ),
    "history.unavailable": LogEvent(
        "warning",
        ("error",),
        "Clients need older events than memory has, and Redis does not answer; they wait.",
        "If it repeats, look at Redis.",
        alike=(),
    ),
    "users.suspended": LogEvent(
        "debug",
        ("users",),
        "The site has said that what these users may see has changed, or perhaps: they get nothing"
        " until it was read anew, and then what they have missed.",
    ),
    "recheck.failed": LogEvent(
        "error",
        ("users", "detail"),
        "What users may see could not be read anew; they get nothing until it is, and after 10 s"
        " those whom the site has named are closed with 1013.",
        "Look at the database; `notifyd_rechecks_waiting` tells how many wait.",
        alike=(),
        id="dd3f7ee9e1eb4cbe9ad0ebb401a5e9e4",
    ),
    "sweep.failed": LogEvent(
        "error",
        ("users", "detail"),
        "What users may see could not be read in turn; they keep what they had for one more turn.",
        "Look at the database: changes that send no signal take effect by the sweep only.",
        alike=(),
    ),
    "auth.failed": LogEvent(
        "warning",
        ("result", "detail", "address", "connection"),
        "A client could not be authenticated.",
        "expired: pages take longer than SESAME_MAX_AGE; rate_limited: see who `address` is.",
        alike=("result",),
        id="d0fd724683db45b1982204c0aa398cbb",
    ),
    "auth.error": LogEvent(
        "error",
        ("error",),
        "Django or its database failed while a client was authenticated.",
        "Look at the database; clients come back by themselves.",
        alike=(),
        id="259b59adf70c42f3a26886f5cf2d264f",
    ),
    "control.command": LogEvent(
        "info",
        ("command", "uid", "pid"),
        "A command came by the control socket.",
        alike=("command", "uid"),
    ),
    "control.failed": LogEvent(
        "error",
        ("command", "error"),
        "A command of the control socket failed in an unforeseen way.",
        "Report it as a bug, with the traceback that [log] level = debug adds.",
        alike=("command",),
    ),
    "endpoint.failed": LogEvent(
        "warning",
        ("path", "error"),
        "An admin request was answered with 500.",
        "Report it as a bug, with the traceback that [log] level = debug adds.",
        alike=("path",),
    ),
}
