"""The metrics of clients: connections, authentication, and what becomes of the slow ones."""

from __future__ import annotations

from typing import Final

from notifyd.core.handover import RESULTS as HANDOVER_RESULTS
from notifyd.core.happenings import NotUpgradedReason, Phase
from notifyd.core.login import Outcome, Result
from notifyd.core.protocol import CloseCode
from notifyd.daemon.metrics_row import Metric, label_values

CLIENTS: Final = (
    Metric(
        "connections",
        "gauge",
        ("state",),
        "Open connections, by how far their conversation has come.",
        "connections",
        label_values(Phase),
    ),
    Metric("connections_opened_total", "counter", (), "WebSockets opened.", "connections"),
    Metric(
        "connections_closed_total",
        "counter",
        ("code",),
        "WebSockets closed, by close code; 1006 is a peer that vanished.",
        "connections",
        label_values(CloseCode),
    ),
    Metric(
        "connections_refused_total",
        "counter",
        ("reason",),
        "Connections that did not become a WebSocket.",
        "connections",
        label_values(NotUpgradedReason),
    ),
    Metric(
        "authentications_total",
        "counter",
        ("result",),
        "Authentications, by how they ended.",
        "authentications",
        label_values(Result),
    ),
    Metric(
        "authentication_seconds",
        "histogram",
        (),
        "Time from a token to its user and what the user may see.",
        "seconds",
    ),
    Metric(
        "rechecks_total",
        "counter",
        ("result",),
        "Users read anew, by orders of the site or in turn, by what became of it.",
        "users",
        label_values(Outcome),
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
        "handover_connections_total",
        "counter",
        ("result",),
        "Connections that were given to a successor or taken from a predecessor, and those that"
        " were closed for it.",
        "connections",
        HANDOVER_RESULTS,
    ),
)
