"""The rows of the dashboard about events: bus, fan-out, latency, trouble, and the process."""

from __future__ import annotations

from typing import Final

from grafana.pages import BUDGET, LATENCY, OBJECTIVE
from grafana.queries import Panel, Query, Row, increase, quantiles, rate, selected, within

DELIVERIES: Final = rate("notifyd_deliveries_total")
REPLAYED: Final = rate("notifyd_replayed_total")
READ: Final = "notifyd_config_last_reload_success_timestamp_seconds"


def each(name: str) -> tuple[Query, ...]:
    """Return the query of a gauge that is told for each daemon."""
    return (Query(selected(name), "{{instance}}"),)


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
            (Query(f"{DELIVERIES} - {REPLAYED}", "live"), Query(REPLAYED, "replayed")),
            "NotifydSlowClients",
            stacked=True,
        ),
        Panel(
            "Recipients of an event",
            "To how many clients an event is written, on average.",
            "short",
            (Query(f"{DELIVERIES} / {rate('notifyd_events_total')}", "recipients"),),
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

TROUBLE: Final = Row(
    "Trouble",
    6,
    (
        Panel(
            "Gaps",
            "Times that events may have been lost and clients were told to load their state.",
            "short",
            (Query(increase("notifyd_gaps_total", "instance"), "{{instance}}"),),
            "NotifydEventsLost",
            high=1,
        ),
        Panel(
            "Clients that don't keep up",
            "Clients that fell behind, and those that were closed since they took nothing.",
            "short",
            (
                Query(increase("notifyd_clients_behind_total"), "behind"),
                Query(increase("notifyd_slow_clients_total"), "closed"),
            ),
            "NotifydSlowClients",
        ),
        Panel(
            "Event loop stands still",
            "The part of the time in which the event loop did not turn.",
            "percentunit",
            (Query(rate("notifyd_event_loop_stall_seconds_total", "instance"), "{{instance}}"),),
            "NotifydEventLoopBlocked",
            high=0.02,
        ),
        Panel(
            "Event loop lag",
            "How late the event loop ran its latest timer.",
            "s",
            each("notifyd_event_loop_lag_seconds"),
            "NotifydEventLoopBlocked",
            high=0.1,
        ),
        Panel(
            "Messages that mean nothing, events that were missed",
            "Messages of clients that were ignored, and events of the channel that came while a"
            " client was behind.",
            "short",
            (
                Query(increase("notifyd_messages_ignored_total"), "ignored"),
                Query(increase("notifyd_pubsub_missed_total"), "missed"),
            ),
            "NotifydSlowClients",
        ),
        Panel(
            "Handed over",
            "Connections that were given to a successor or taken from a predecessor.",
            "short",
            (Query(increase("notifyd_handover_connections_total", "result"), "{{result}}"),),
            "NotifydRestartLoop",
        ),
        Panel(
            "Latest reload successful",
            "Whether the latest reload took the configuration over.",
            "bool_yes_no",
            each("notifyd_config_last_reload_successful"),
            "NotifydReloadFailed",
            low=1,
        ),
        Panel(
            "Age of the configuration",
            "Time since the configuration in effect was read.",
            "dtdurations",
            (Query(f"time() - {selected(READ)}", "{{instance}}"),),
            "NotifydReloadFailed",
        ),
    ),
)

PROCESS: Final = Row(
    "Process",
    8,
    (
        Panel(
            "Processor",
            "The part of a core that is used; a daemon uses one.",
            "percentunit",
            (Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),),
            "NotifydEventLoopBlocked",
            high=0.8,
        ),
        Panel(
            "Memory",
            "Resident memory.",
            "bytes",
            each("process_resident_memory_bytes"),
            "NotifydRestartLoop",
        ),
        Panel(
            "Descriptors in use",
            "The part of the file descriptors that is in use; every client needs one.",
            "percentunit",
            (
                Query(
                    f"{selected('process_open_fds')} / {selected('process_max_fds')}",
                    "{{instance}}",
                ),
            ),
            "NotifydDescriptorsRunningOut",
            high=0.8,
        ),
        Panel(
            "Time since the start",
            "Time since the process was started.",
            "dtdurations",
            (Query(f"time() - {selected('process_start_time_seconds')}", "{{instance}}"),),
            "NotifydRestartLoop",
        ),
        Panel(
            "Garbage collections",
            "Collections of Python's garbage in a second, by generation.",
            "cps",
            (Query(rate("python_gc_collections_total", "generation"), "{{generation}}"),),
            "NotifydEventLoopBlocked",
        ),
        Panel(
            "Versions",
            "How many daemons run which version.",
            "short",
            (
                Query(
                    f"count by (version, python) ({selected('notifyd_build_info')})",
                    "notifyd {{version}}, Python {{python}}",
                ),
            ),
            "NotifydRestartLoop",
        ),
    ),
)
