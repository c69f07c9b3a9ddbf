"""The table of metrics: each one once. The reference page comes from here."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from notifyd.core.acknowledgements import Acknowledgement
from notifyd.core.events import Rejection
from notifyd.core.handover import RESULTS as HANDOVER_RESULTS
from notifyd.core.happenings import NotUpgradedReason, Phase
from notifyd.core.login import Outcome, Result
from notifyd.core.protocol import CloseCode

if TYPE_CHECKING:
    from collections.abc import Iterable


class Metric(NamedTuple):
    """A metric without its prefix; `values` are those its label has from the start."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    unit: str
    values: tuple[str, ...] = ()


def label_text(value: object) -> str:
    """Return a label's value as it is shown; an enumeration's is its own."""
    return str(value.value if isinstance(value, enum.Enum) else value)


def _values(known: Iterable[object]) -> tuple[str, ...]:
    return tuple(label_text(value) for value in known)


CHECKS: Final = ("listeners", "redis", "database", "draining")
"""What readiness consists of; `draining` fails while the daemon stops."""

METRICS: Final = (
    Metric(
        "ready",
        "gauge",
        ("check",),
        "Whether a check of /readyz is passed: 1 or 0; with all of them the daemon is ready.",
        "",
        CHECKS,
    ),
    Metric(
        "connections",
        "gauge",
        ("state",),
        "Open connections, by how far their conversation has come.",
        "connections",
        _values(Phase),
    ),
    Metric("connections_opened_total", "counter", (), "WebSockets opened.", "connections"),
    Metric(
        "connections_closed_total",
        "counter",
        ("code",),
        "WebSockets closed, by close code; 1006 is a peer that vanished.",
        "connections",
        _values(CloseCode),
    ),
    Metric(
        "connections_refused_total",
        "counter",
        ("reason",),
        "Connections that did not become a WebSocket.",
        "connections",
        _values(NotUpgradedReason),
    ),
    Metric(
        "authentications_total",
        "counter",
        ("result",),
        "Authentications, by how they ended.",
        "authentications",
        _values(Result),
    ),
    Metric(
        "authentication_seconds",
        "histogram",
        (),
        "Time from a token to its user and what the user may see.",
        "seconds",
    ),
    Metric(
        "events_total",
        "counter",
        ("source",),
        "Events relayed, by where they came from.",
        "events",
        ("stream", "pubsub"),
    ),
    Metric(
        "events_rejected_total",
        "counter",
        ("reason",),
        "Entries of the bus that are no valid event and were not relayed.",
        "events",
        _values(Rejection),
    ),
    Metric("deliveries_total", "counter", (), "Events written, once per recipient.", "deliveries"),
    Metric(
        "delivered_bytes_total", "counter", (), "Bytes of frames written to recipients.", "bytes"
    ),
    Metric(
        "broadcast_latency_seconds",
        "histogram",
        (),
        "Time from an event's publication to its write to the last recipient; stream only.",
        "seconds",
    ),
    Metric(
        "bus_latency_seconds",
        "histogram",
        (),
        "The first stage of that: from the publication until the daemon has read the event.",
        "seconds",
    ),
    Metric(
        "relay_latency_seconds",
        "histogram",
        (),
        "The second stage: from there until the event is written to its last recipient.",
        "seconds",
    ),
    Metric(
        "broadcast_latency_clamped_total",
        "counter",
        (),
        "Latencies observed as 0 because the clocks of Redis and this host disagree.",
        "events",
    ),
    Metric(
        "client_latency_seconds",
        "histogram",
        (),
        "Time from an event's publication until a page's word is here that it has it; a sample.",
        "seconds",
    ),
    Metric(
        "client_latency_clamped_total",
        "counter",
        (),
        "Those observed as 0 because the clocks of Redis and this host disagree.",
        "events",
    ),
    Metric(
        "acknowledgements_total",
        "counter",
        ("result",),
        "Acknowledgements of pages: only those that are ok are in the sample.",
        "acknowledgements",
        _values(Acknowledgement),
    ),
    Metric(
        "fanout_seconds",
        "histogram",
        (),
        "Time to write a batch of events to all of its recipients.",
        "seconds",
    ),
    Metric("bus_lag_seconds", "gauge", (), "Age of the newest batch when it was read.", "seconds"),
    Metric("redis_up", "gauge", (), "Whether Redis answers: 1 or 0.", ""),
    Metric(
        "redis_reconnects_total", "counter", (), "Connections to Redis made anew.", "connections"
    ),
    Metric(
        "events_recovered_total",
        "counter",
        (),
        "Events read after a reconnection that were written before it.",
        "events",
    ),
    Metric(
        "gaps_total",
        "counter",
        (),
        "Times that events may have been lost and clients were told to load their state.",
        "gaps",
    ),
    Metric(
        "handover_connections_total",
        "counter",
        ("result",),
        "Connections that were given to a successor or taken from a predecessor, and those that"
        " were closed for it.",
        "connections",
        HANDOVER_RESULTS,
    ),
    Metric(
        "history_seconds",
        "gauge",
        (),
        "How far back the history in memory reaches; Redis has what is older.",
        "seconds",
    ),
    Metric(
        "replayed_total",
        "counter",
        (),
        "Deliveries to clients that were behind: the part of deliveries that was not live.",
        "deliveries",
    ),
    Metric(
        "pubsub_missed_total",
        "counter",
        (),
        "Events of the channel that came while a client was behind, once for each such client.",
        "events",
    ),
    Metric(
        "rechecks_total",
        "counter",
        ("result",),
        "Users read anew, by orders of the site or in turn, by what became of it.",
        "users",
        _values(Outcome),
    ),
    Metric(
        "recheck_seconds",
        "histogram",
        (),
        "Time from an order to read a user anew until the user's clients get events again.",
        "seconds",
    ),
    Metric(
        "rechecks_waiting",
        "gauge",
        (),
        "Connected users who get nothing until they were read anew.",
        "users",
    ),
    Metric(
        "clients_behind_total",
        "counter",
        (),
        "Times that a client owed so much that it was fed from the history from then on.",
        "clients",
    ),
    Metric(
        "slow_clients_total",
        "counter",
        (),
        "Clients closed because they did not take what they were sent.",
        "clients",
    ),
    Metric(
        "messages_ignored_total",
        "counter",
        (),
        "Messages of clients that mean nothing here.",
        "messages",
    ),
    Metric(
        "config_last_reload_successful",
        "gauge",
        (),
        "Whether the latest reload took the configuration over: 1 or 0.",
        "",
    ),
    Metric(
        "config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the configuration in effect was read, as Unix time.",
        "seconds",
    ),
    Metric(
        "event_loop_lag_seconds",
        "gauge",
        (),
        "How late the event loop ran its latest timer.",
        "seconds",
    ),
    Metric(
        "event_loop_stall_seconds_total",
        "counter",
        (),
        "Time for which the event loop did not turn, of stalls of more than 0.1 seconds.",
        "seconds",
    ),
    Metric(
        "build_info",
        "gauge",
        ("version", "python", "django", "redis", "websockets"),
        "Always 1; its labels are the versions in use.",
        "",
    ),
)
