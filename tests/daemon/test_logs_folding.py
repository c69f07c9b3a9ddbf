"""Lines that repeat, and the levels of parts; the clock is the tests' own."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from logging_state import kept_logging

from notifyd.daemon import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("notifyd.daemon.admission")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with kept_logging():
        yield


class Log:
    """Standard error as the daemon writes it, and the time as the test has it."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.now = 0.0
        self.configure()

    def configure(self, level: str = "info", *levels: str, fold: float = 10.0) -> None:
        """Log by these options from now on."""
        logs.configure(level, "json", levels=levels, fold=fold, clock=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the service have a turn."""
        self.now += seconds
        logs.tick()

    def lines(self) -> list[dict[str, Any]]:
        """Return what was written since the last call."""
        return [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]

    def told(self) -> list[tuple[str, int]]:
        """Return the same as the events, and how often each of the lines says that it came."""
        return [(line["event"], line.get("repeated", 1)) for line in self.lines()]


@pytest.fixture(name="out")
def _out(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


def test_storm(out: Log) -> None:
    """Of ten thousand bad tokens the first is told at once, and then how many there were."""
    for number in range(10_000):
        log.warning("auth.failed", result="invalid", detail="no token", address=f"10.0.0.{number}")
    [first] = out.lines()
    assert (first["address"], "repeated" in first) == ("10.0.0.0", False)
    out.pass_time(10)
    [last] = out.lines()
    assert (last["address"], last["repeated"]) == ("10.0.0.9999", 9_999)
    assert {**first, **last} == last


def test_next_line_brings_those_that_are_due(out: Log) -> None:
    """Where nobody ticks, as before the daemon has started, the next line tells them."""
    for _ in range(3):
        log.warning("auth.failed", result="invalid")
    out.now = 10
    log.info("service.started")
    assert out.told() == [("auth.failed", 1), ("auth.failed", 2), ("service.started", 1)]


def test_kinds(out: Log) -> None:
    """Lines that differ in what makes their kind don't hide each other."""
    for result in ("invalid", "expired", "invalid", "rate_limited"):
        log.warning("auth.failed", result=result)
    assert [line["result"] for line in out.lines()] == ["invalid", "expired", "rate_limited"]


def test_nothing_about_a_user_is_folded(out: Log) -> None:
    """Each connection of somebody who was let in has its line; those of strangers are folded."""
    for user in ("1", "1", None, None, None):
        log.info("connection.closed", code=1000, user=user)
    assert [line["user"] for line in out.lines()] == ["1", "1", None]


@pytest.mark.parametrize("event", ["service.error", "bus.disconnected", "no.such_event"])
def test_told_each_time(event: str, out: Log) -> None:
    """Whatever the table doesn't call alike is told each time."""
    for _ in range(3):
        log.error(event)
    assert out.told() == [(event, 1)] * 3


def test_critical_lines_are_told(out: Log) -> None:
    """A critical line is told each time, a library's too."""
    for _ in range(2):
        logging.getLogger("django").critical("oops")
    assert out.told() == [("oops", 1)] * 2


def test_libraries(out: Log) -> None:
    """Lines of a library are alike if the same place logs them about the same kind of error."""
    for error in (ValueError("a"), ValueError("b"), KeyError("c")):
        logging.getLogger("django.request").error("Failed: %s", error, exc_info=error)
    logging.getLogger("django.request").error("Failed: %s", "elsewhere")
    out.pass_time(10)
    assert out.told() == [
        ("Failed: a", 1),
        ("Failed: 'c'", 1),
        ("Failed: elsewhere", 1),
        ("Failed: b", 1),
    ]


def test_end(out: Log) -> None:
    """At the end nothing stays untold."""
    for _ in range(3):
        log.warning("auth.failed", result="invalid")
    logs.flush()
    assert out.told() == [("auth.failed", 1), ("auth.failed", 2)]


def test_new_configuration(out: Log) -> None:
    """What was held back is told before a reload changes how."""
    for _ in range(3):
        log.warning("auth.failed", result="invalid")
    out.configure("error")
    assert out.told() == [("auth.failed", 1), ("auth.failed", 2)]


@pytest.mark.parametrize(
    ("level", "levels", "fold"),
    [("info", (), 0.0), ("debug", (), 10.0), ("info", ("auth=debug",), 10.0)],
)
def test_unfolded(level: str, levels: tuple[str, ...], fold: float, out: Log) -> None:
    """Nothing is folded without a time for it, or where all is to be told, at debug."""
    out.configure(level, *levels, fold=fold)
    for _ in range(3):
        log.warning("auth.failed", result="invalid")
    assert out.told() == [("auth.failed", 1)] * 3


def test_threads(out: Log) -> None:
    """Lines of all threads are counted."""

    def fail() -> None:
        for _ in range(500):
            log.error("auth.error", error="no database")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    logs.flush()
    assert out.told() == [("auth.error", 1), ("auth.error", 1_999)]


def test_part_that_tells_more(out: Log) -> None:
    """A part at debug tells what others don't, with the traceback of each error."""
    out.configure("warning", "connection=debug", "endpoint=debug")
    log.debug("connection.opened")
    log.debug("users.suspended")
    log.info("service.started")
    log.warning("endpoint.failed", exc_info=ValueError("oops"))
    log.error("control.failed", exc_info=ValueError("oops"))
    lines = out.lines()
    assert [line["event"] for line in lines] == [
        "connection.opened",
        "endpoint.failed",
        "control.failed",
    ]
    assert ["traceback" in line for line in lines] == [False, True, False]


def test_part_that_tells_less(out: Log) -> None:
    """A part with a higher level tells less than others."""
    out.configure("info", "auth=error")
    log.warning("auth.failed")
    log.error("auth.error")
    log.info("bus.connected")
    assert [line["event"] for line in out.lines()] == ["auth.error", "bus.connected"]


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ((), {"redis warning", "django info", "django warning"}),
        (("redis=info",), {"redis info", "redis warning", "django info", "django warning"}),
        (("django=error",), {"redis warning"}),
    ],
)
def test_libraries_have_levels(levels: tuple[str, ...], told: set[str], out: Log) -> None:
    """A library's level is its own, with all that is below it, and never shows its debug lines."""
    out.configure("info", *levels)
    for name in ("redis", "django"):
        logger = logging.getLogger(f"{name}.connection")
        logger.debug("%s debug", name)
        logger.info("%s info", name)
        logger.warning("%s warning", name)
    assert {line["event"] for line in out.lines()} == told


def test_levels_that_are_wrong(out: Log) -> None:
    """A part that does not exist is a mistake, and changes nothing."""
    with pytest.raises(ValueError, match="is about no part of the log"):
        out.configure("info", "everything=debug")
    log.info("bus.connected")
    assert out.told() == [("bus.connected", 1)]
