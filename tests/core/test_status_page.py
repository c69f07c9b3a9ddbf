"""The page of `notifyd status`."""

from __future__ import annotations

import pytest

from notifyd.core.status_page import page

CLIENT = {
    "user": "7",
    "address": "192.0.2.1",
    "connection": 12,
    "owed": 4096,
    "behind_seconds": 1.5,
    "position": "5-0",
}


def test_values() -> None:
    """Each value is a row, with what belongs together in one, and without counts of nothing."""
    lines = page(
        {
            "users": 3,
            "rechecks_waiting": 0,
            "connections": {"live": 2, "waiting_long": 1, "closing": 0},
            "events": {"stream": 0},
            "listeners": ["a:1", "b:2"],
            "configuration": {"read_at": "T", "good": False},
            "history": None,
        }
    )
    assert lines == [
        "users             3",
        "rechecks waiting  0",
        "connections       live 2, waiting long 1",
        "events            -",
        "listeners         a:1, b:2",
        "configuration     read at T, good no",
        "history           -",
    ]


def test_bus() -> None:
    """Of the bus each value is a row, but for those that there are not."""
    bus = {"up": True, "away_seconds": None, "proof_age": {"stream": 0.0, "pubsub": 1.5}}
    assert page({"bus": bus}) == [
        "bus up         yes",
        "bus proof age  stream 0.0, pubsub 1.5",
    ]


def test_ready() -> None:
    """What fails is told as what it is about: that the daemon is not ready, and why."""
    failing = {"redis": "away for 7 s", "draining": "the daemon is stopping"}
    assert page({"failing": {}}) == ["ready  yes"]
    [line] = page({"failing": failing})
    assert line == "ready  no, redis: away for 7 s; draining: the daemon is stopping"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3_600, "1 h 0 s"),
        (7_325, "2 h 2 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_uptime(seconds: float, words: str) -> None:
    """A time is told in the two units that matter."""
    assert page({"uptime": seconds}) == [f"uptime  {words}"]


def test_clients() -> None:
    """The slowest clients are a table below."""
    assert page({"users": 1, "slowest_clients": [CLIENT]}) == [
        "users  1",
        "",
        "slowest clients",
        "  user  address    connection  bytes owed  seconds behind  position",
        "  7     192.0.2.1  12          4096        1.5             5-0",
    ]


def test_errors() -> None:
    """Recent errors tell when they came last, how often, and all that the log says."""
    once = {"timestamp": "T1", "level": "warning", "event": "auth.failed", "result": "invalid"}
    often = {"timestamp": "T2", "level": "error", "event": "bus.gap", "reason": None}
    lines = page({"users": 1, "recent_errors": [often | {"times": 3}, once | {"times": 1}]})
    assert lines[1:] == [
        "",
        "recent errors",
        "  T2  error    bus.gap (3 times)",
        "  T1  warning  auth.failed result=invalid",
    ]


def test_strangers() -> None:
    """What strangers wrote can't move the cursor."""
    line = {"timestamp": "T", "level": "warning", "event": "e", "origin": "\x1b[2J"}
    assert page({"recent_errors": [line]})[-1] == "  T  warning  e origin=\\x1b[2J"


def test_nothing_to_complain_about() -> None:
    """Where nobody is slow and nothing went wrong there is nothing below."""
    assert page({"users": 1, "slowest_clients": [], "recent_errors": []}) == ["users  1"]
