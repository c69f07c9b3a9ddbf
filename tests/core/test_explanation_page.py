"""The page of `notifyd explain`."""

from __future__ import annotations

from typing import Any

from notifyd.core.explanation_page import page
from notifyd.core.explanations import Verdict

ANSWER: dict[str, Any] = {"id": "5-0", "demands": ["the permission a.b"], "failing": {}}
NOBODY = {verdict.value: {"users": 0, "connections": 0, "named": []} for verdict in Verdict}
FIRST = "the event 5-0, if it came now, demands the permission a.b"


def test_everybody() -> None:
    """Users with the same verdict stand together, with the reason of each."""
    users = NOBODY | {
        "gets": {"users": 1, "connections": 2, "named": [{"user": "7", "why": []}]},
        "not_connected": {
            "users": 1,
            "connections": 0,
            "named": [{"user": "8", "why": ["a", "b"]}],
        },
    }
    assert page(ANSWER | {"users": users}) == [
        FIRST,
        "",
        "get it: 1 user, 2 connections",
        "  7",
        "",
        "are named, but not connected: 1 user",
        "  8  a; b",
    ]


def test_many() -> None:
    """Where not all users are named, it says how many more there are."""
    found = {"users": 50, "connections": 50, "named": [{"user": "7", "why": ["lacks a.b"]}]}
    assert page(ANSWER | {"users": NOBODY | {"may_not": found}})[2:] == [
        "may not see it: 50 users, 50 connections",
        "  7  lacks a.b",
        "  and 49 more: ask about one with --user",
    ]


def test_nobody() -> None:
    """Where nobody is connected and named, it says so."""
    assert page(ANSWER | {"users": NOBODY}) == [FIRST, "", "nobody is connected"]


def test_not_ready() -> None:
    """What keeps the daemon from relaying anything comes first."""
    answer = {"id": None, "demands": ["nothing"], "failing": {"redis": "away for 7 s"}}
    assert page(answer | {"users": NOBODY})[:2] == [
        "an event, if it came now, demands nothing",
        "not ready: redis: away for 7 s",
    ]


def test_asked() -> None:
    """Of a user who was asked about all is told: the reasons, the database, and each connection."""
    connection = {
        "connection": 12,
        "address": "192.0.2.1",
        "verdict": "gets_later",
        "owed": 4096,
        "behind_seconds": 1.25,
    }
    user = {
        "user": "7\x1b",
        "verdict": "gets_later",
        "why": ["a connection is 1.2 s behind"],
        "database": "the user may see it",
        "connections": [connection],
    }
    assert page(ANSWER | {"asked": [user]}) == [
        FIRST,
        "",
        "user 7\\x1b gets it later",
        "  a connection is 1.2 s behind",
        "  the database says: the user may see it",
        "  connection 12 from 192.0.2.1 gets it later (4096 bytes owed, 1.2 s behind)",
    ]
