"""The rows of the dashboard about the daemon itself: trouble, and the process."""

from __future__ import annotations

from typing import Final

from grafana.queries import Panel, Query, Row, each, increase, rate, selected

READ: Final = "notifyd_config_last_reload_success_timestamp_seconds"

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
