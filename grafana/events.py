"""The rows of the dashboard about events: bus, fan-out, latency."""

from __future__ import annotations

from typing import Final

from grafana.pages import BUDGET, LATENCY, OBJECTIVE
from grafana.queries import Panel, Query, Row, each, increase, quantiles, rate, selected, within

DELIVERIES: Final = rate("notifyd_deliveries_total")
REPLAYED: Final = rate("notifyd_replayed_total")
LIVE: Final = f"{DELIVERIES} - {REPLAYED}"

BUS: Final = Row(
    "Bus",
    6,
    (
        Panel(
            "Redis answers",
            "Whether Redis answers, for each daemon.",
            "bool_yes_no",
            each("notifyd_redis_up"),
            "NotifydRedisAway",
            low=1,
        ),
        Panel(
            "Last proof of Redis",
            "Time since Redis last proved that what is written there reaches a daemon. It answers"
            " every few seconds, also when nothing is written.",
            "s",
            (
                Query(
                    f"max by (source) ({selected('notifyd_bus_proof_age_seconds')})", "{{source}}"
                ),
            ),
            "NotifydRedisAway",
            high=10,
        ),
        Panel(
            "Events read",
            "Events read in a second, by where they came from.",
            "cps",
            (Query(rate("notifyd_events_total", "source"), "{{source}}"),),
            "NotifydRedisAway",
        ),
        Panel(
            "Age when read",
            "Age of the newest batch of events when it was read from Redis.",
            "s",
            each("notifyd_bus_lag_seconds"),
            "NotifydLatencyBudgetBurning",
            high=OBJECTIVE,
        ),
        Panel(
            "Reconnections",
            "Connections to Redis made anew.",
            "short",
            (Query(increase("notifyd_redis_reconnects_total"), "reconnections"),),
            "NotifydRedisAway",
        ),
        Panel(
            "Recovered",
            "Events that were written while Redis was away from a daemon, and read afterwards.",
            "short",
            (Query(increase("notifyd_events_recovered_total"), "events"),),
            "NotifydRedisAway",
        ),
        Panel(
            "Rejected",
            "Entries of the bus that are no valid event, by what is wrong with them.",
            "short",
            (Query(increase("notifyd_events_rejected_total", "reason"), "{{reason}}"),),
            "NotifydEventsRejected",
            stacked=True,
        ),
        Panel(
            "History",
            "How far back the history in memory reaches; Redis has what is older.",
            "s",
            each("notifyd_history_seconds"),
            "NotifydEventsLost",
        ),
    ),
)

FAN_OUT: Final = Row(
    "Fan-out",
    6,
    (
        Panel(
            "Deliveries",
            "Events written in a second, once for each recipient: at once, or to clients that were"
            " behind.",
            "cps",
            (Query(LIVE, "live"), Query(REPLAYED, "replayed")),
            "NotifydSlowClients",
            stacked=True,
        ),
        Panel(
            "Recipients of an event",
            "To how many clients an event is written at once, on average. What is replayed to those"
            " that come back was read long before, and does not count.",
            "short",
            (Query(f"({LIVE}) / {rate('notifyd_events_total')}", "recipients"),),
            "NotifydLatencyBudgetBurning",
        ),
        Panel(
            "Bytes written",
            "Bytes of frames written to recipients in a second.",
            "Bps",
            (Query(rate("notifyd_delivered_bytes_total"), "written"),),
            "NotifydSlowClients",
        ),
        Panel(
            "Time to write a batch",
            "Time to write a batch of events to all of its recipients.",
            "s",
            quantiles("notifyd_fanout_seconds"),
            "NotifydLatencyBudgetBurning",
            high=OBJECTIVE,
        ),
    ),
)

LATENCIES: Final = Row(
    "Latency",
    8,
    (
        Panel(
            "From publication to the last recipient",
            f"How long events took; the objective: {1 - BUDGET:.0%} of them within {OBJECTIVE} s.",
            "s",
            quantiles(LATENCY),
            "NotifydLatencyBudgetBurning",
            high=OBJECTIVE,
        ),
        Panel(
            "From publication to a page",
            "How long events took until a page's word was here that it has them: a sample, which"
            " includes the network both ways.",
            "s",
            quantiles("notifyd_client_latency_seconds"),
            "NotifydLatencyBudgetBurning",
        ),
        Panel(
            "Late events",
            f"The part of the events that took more than {OBJECTIVE} s.",
            "percentunit",
            (Query(f"1 - {within(LATENCY, OBJECTIVE)}", "late"),),
            "NotifydLatencyBudgetBurning",
            high=BUDGET,
        ),
        Panel(
            "Until it is read",
            "The first stage: from an event's publication until a daemon has read it from Redis.",
            "s",
            quantiles("notifyd_bus_latency_seconds"),
            "NotifydLatencyBudgetBurning",
            high=OBJECTIVE,
        ),
        Panel(
            "From there to the last recipient",
            "The second stage: from the reading until the event is written to its last recipient.",
            "s",
            quantiles("notifyd_relay_latency_seconds"),
            "NotifydLatencyBudgetBurning",
            high=OBJECTIVE,
        ),
        Panel(
            "Clocks that disagree",
            "Latencies taken for 0, since an event seemed to come from the future.",
            "short",
            (
                Query(increase("notifyd_broadcast_latency_clamped_total"), "events"),
                Query(increase("notifyd_client_latency_clamped_total"), "acknowledgements"),
            ),
            "NotifydLatencyBudgetBurning",
        ),
    ),
)
