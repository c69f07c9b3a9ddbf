"""The rows of the dashboard about pages: at a glance, clients, authentication."""

from __future__ import annotations

from typing import Final

from grafana.queries import Panel, Query, Row, quantiles, rate, selected, total, within

OBJECTIVE: Final = 0.25
"""Seconds within which an event is to be with its last recipient; the rules say the same."""

BUDGET: Final = 0.01
"""The part of the events that may take longer."""

LATENCY: Final = "notifyd_broadcast_latency_seconds"
FAILED: Final = rate("notifyd_authentications_total", also='result!="ok"')


GLANCE: Final = Row(
    "At a glance",
    4,
    (
        Panel(
            "Daemons",
            "Daemons that answer Prometheus.",
            "short",
            (Query(total("up"), "up"),),
            "NotifydDown",
            low=1,
            stat=True,
        ),
        Panel(
            "Ready",
            "Whether all daemons pass every check of /readyz.",
            "bool_yes_no",
            (Query(f"min ({selected('notifyd_ready')})", "ready"),),
            "NotifydNotReady",
            low=1,
            stat=True,
        ),
        Panel(
            "Redis",
            "Whether Redis answers all daemons.",
            "bool_yes_no",
            (Query(f"min ({selected('notifyd_redis_up')})", "up"),),
            "NotifydRedisAway",
            low=1,
            stat=True,
        ),
        Panel(
            "Clients",
            "Clients that get events, those that are catching up included.",
            "short",
            (Query(total("notifyd_connections", also='state=~"live|behind"'), "clients"),),
            "NotifydReconnectStorm",
            stat=True,
        ),
        Panel(
            "Deliveries",
            "Events written to recipients in a second, once for each recipient.",
            "cps",
            (Query(rate("notifyd_deliveries_total"), "deliveries"),),
            "NotifydRedisAway",
            stat=True,
        ),
        Panel(
            "Late events",
            f"The part of the events that took more than {OBJECTIVE} s from their publication to"
            f" their last recipient; the objective is {BUDGET:.0%} of a month's at most.",
            "percentunit",
            (Query(f"1 - {within(LATENCY, OBJECTIVE)}", "late"),),
            "NotifydLatencyBudgetBurning",
            high=BUDGET,
            stat=True,
        ),
    ),
)

CLIENTS: Final = Row(
    "Clients",
    6,
    (
        Panel(
            "Connections",
            "Open connections, by how far their conversation has come. Those that stay in hello or"
            " authenticating wait for the page or for the database.",
            "short",
            (Query(total("notifyd_connections", "state"), "{{state}}"),),
            "NotifydFull",
            stacked=True,
        ),
        Panel(
            "Opened and closed",
            "Connections opened and closed in a second. Every page that is opened opens one; a peak"
            " of both is a storm.",
            "cps",
            (
                Query(rate("notifyd_connections_opened_total"), "opened"),
                Query(rate("notifyd_connections_closed_total"), "closed"),
            ),
            "NotifydReconnectStorm",
        ),
        Panel(
            "Closed, by code",
            "Why connections ended: 1000 and 1001 are pages that were left, 1006 peers that"
            " vanished, 1012 a restart; the reference has all close codes.",
            "cps",
            (Query(rate("notifyd_connections_closed_total", "code"), "{{code}}"),),
            "NotifydReconnectStorm",
            stacked=True,
        ),
        Panel(
            "Refused",
            "Connections that did not become a WebSocket: full is the limit of connections, origin"
            " a page of another site.",
            "cps",
            (Query(rate("notifyd_connections_refused_total", "reason"), "{{reason}}"),),
            "NotifydFull",
            stacked=True,
        ),
    ),
)

AUTHENTICATION: Final = Row(
    "Authentication",
    8,
    (
        Panel(
            "Authentications",
            "Authentications in a second, by how they ended.",
            "cps",
            (Query(rate("notifyd_authentications_total", "result"), "{{result}}"),),
            "NotifydAuthenticationFailures",
            stacked=True,
        ),
        Panel(
            "Failed authentications",
            "The part of the authentications that failed.",
            "percentunit",
            (Query(f"{FAILED} / {rate('notifyd_authentications_total')}", "failed"),),
            "NotifydAuthenticationFailures",
            high=0.25,
        ),
        Panel(
            "Time to authenticate",
            "Time from a token to its user and what the user may see: mostly the database's.",
            "s",
            quantiles("notifyd_authentication_seconds"),
            "NotifydNotReady",
        ),
        Panel(
            "Users read anew",
            "Users whose permissions were read anew, by orders of the site or in turn, by what"
            " became of it.",
            "cps",
            (Query(rate("notifyd_rechecks_total", "result"), "{{result}}"),),
            "NotifydNotReady",
            stacked=True,
        ),
        Panel(
            "Time to read anew",
            "Time from an order to read a user anew until the user's clients get events again.",
            "s",
            quantiles("notifyd_recheck_seconds"),
            "NotifydNotReady",
        ),
        Panel(
            "Users that wait",
            "Connected users who get nothing until they were read anew.",
            "short",
            (Query(total("notifyd_rechecks_waiting", "instance"), "{{instance}}"),),
            "NotifydNotReady",
        ),
    ),
)
