"""The table of metrics: each one once. The reference page comes from here."""

from __future__ import annotations

from typing import Final

from notifyd.core.acknowledgements import Acknowledgement
from notifyd.core.batch import SOURCES
from notifyd.core.events import Rejection
from notifyd.daemon.metrics_clients import CLIENTS
from notifyd.daemon.metrics_row import Metric, label_values

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
    *CLIENTS,
    Metric(
        "events_total",
        "counter",
        ("source",),
        "Events relayed, by where they came from.",
        "events",
        SOURCES,
    ),
    Metric(
        "events_rejected_total",
        "counter",
        ("reason",),
        "Entries of the bus that are no valid event and were not relayed.",
        "events",
        label_values(Rejection),
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
        label_values(Acknowledgement),
    ),
    Metric(
        "fanout_seconds",
        "histogram",
        (),
        "Time to write a batch of events to all of its recipients.",
        "seconds",
    ),
    Metric("bus_lag_seconds", "gauge", (), "Age of the newest batch when it was read.", "seconds"),
    Metric(
        "bus_proof_age_seconds",
        "gauge",
        ("source",),
        "Time since Redis last proved that what is written there reaches the daemon.",
        "seconds",
        SOURCES,
    ),
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
