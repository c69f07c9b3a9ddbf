"""The latest warnings and errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from logging_state import kept_logging

from notifyd.daemon import logs
from notifyd.daemon.logs_recent import MOST, Recent

if TYPE_CHECKING:
    from collections.abc import Iterator

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("notifyd.daemon.admission")


@pytest.fixture(name="recent")
def _recent(capsys: pytest.CaptureFixture[str]) -> Iterator[Recent]:
    with kept_logging():
        logs.configure(format="json")
        yield logs.remember()
        capsys.readouterr()


def told(recent: Recent) -> list[tuple[str, int]]:
    """Return the events that are kept, and how often each has come."""
    return [(line["event"], line["times"]) for line in recent.lines()]


def test_latest_first(recent: Recent) -> None:
    """What was warned of is kept as the log has it, the latest first."""
    log.warning("event.rejected", reason="not_json", id="1-0")
    log.error("bus.gap", reason="trimmed")
    assert told(recent) == [("bus.gap", 1), ("event.rejected", 1)]
    line = recent.lines()[1]
    assert (line["level"], line["reason"], line["id"]) == ("warning", "not_json", "1-0")


def test_of_no_consequence(recent: Recent) -> None:
    """What is less than a warning is not kept."""
    log.info("bus.connected", source="stream")
    assert recent.lines() == []


def test_alike(recent: Recent) -> None:
    """Of lines that are alike the latest is kept, and how many there were."""
    for number in range(10_000):
        log.warning("auth.failed", result="invalid", address=f"10.0.0.{number}")
    log.warning("auth.failed", result="expired", address="10.1.0.0")
    log.warning("auth.failed", result="invalid", address="10.2.0.0")
    assert [line["address"] for line in recent.lines()] == ["10.2.0.0", "10.1.0.0"]
    assert told(recent) == [("auth.failed", 10_001), ("auth.failed", 1)]


def test_users(recent: Recent) -> None:
    """Lines about users, which the log tells one by one, are alike here."""
    for user in range(100):
        log.warning("client.slow", user=str(user), detail="it takes nothing any more")
    assert told(recent) == [("client.slow", 100)]


def test_libraries(recent: Recent) -> None:
    """Records of other libraries are kept, too, without a traceback and without secrets."""
    error = ValueError("redis://:s3cret@example.com")
    logging.getLogger("django.request").error("It failed", exc_info=error)
    [line] = recent.lines()
    assert (line["event"], line["logger"]) == ("It failed", "django.request")
    assert line["error"] == "ValueError: redis://:***@example.com"
    assert "traceback" not in line


def test_bounded(recent: Recent) -> None:
    """However many kinds there are, the oldest give way."""
    for number in range(100):
        logging.getLogger(f"library{number}").warning("It failed")
    assert len(recent.lines()) == MOST
    assert recent.lines()[0]["logger"] == "library99"


def test_configured_anew(recent: Recent) -> None:
    """A log that is configured anew, as by a reload, has the same memory."""
    log.error("bus.gap", reason="trimmed")
    logs.configure(format="json")
    log.error("bus.gap", reason="flushed")
    assert told(recent) == [("bus.gap", 2)]


def test_no_exception(recent: Recent) -> None:
    """A record that can't be put into words does not end whoever logs it."""
    recent.handle(logging.LogRecord("x", logging.ERROR, "x.py", 1, "%d", ("no number",), None))
    assert recent.lines() == []
