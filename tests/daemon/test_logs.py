from __future__ import annotations

import array
import ast
import datetime as dt
import fcntl
import json
import logging
import logging.config
import os
import pty
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from logging_state import kept_logging

import notifyd
from notifyd.daemon import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("notifyd.daemon.bus")

# What Django's own default looks like, and a site that has silenced a library.
SITE_LOGGING = {
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO"},
        "django.server": {"handlers": ["console"], "level": "CRITICAL", "propagate": False},
    },
}

SAY = (
    "import structlog; from notifyd.daemon import logs; "
    "logs.configure(); structlog.stdlib.get_logger('notifyd.x').info('bus.connected', source='s')"
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with kept_logging():
        yield


@pytest.fixture
def journal(folder: Path) -> Iterator[socket.socket]:
    """Stand for journald: a datagram socket, which is all that its protocol asks for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "socket"))
        receiver.settimeout(10)
        yield receiver


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was written to standard error since the last call."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def decode(entry: bytes) -> dict[str, str]:
    """Read an entry as the Native Journal Protocol defines it."""
    fields: dict[str, str] = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", entry[:8])
            value, entry = entry[8 : 8 + size], entry[8 + size :].removeprefix(b"\n")
        fields[name.decode()] = value.decode()
    return fields


def received(receiver: socket.socket) -> dict[str, str]:
    """Return the fields of the next entry in the journal."""
    return decode(receiver.recv(1_000_000))


def test_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A record is one JSON object in one line: time in UTC, level, event, then its fields."""
    logs.configure("info", "json")
    log.warning("bus.disconnected", error="no\nroute", retry_in=1.5)
    (line,) = lines(capsys)
    moment = dt.datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == dt.timedelta(0)
    assert list(line.items()) == [
        ("level", "warning"),
        ("event", "bus.disconnected"),
        ("error", "no\nroute"),
        ("retry_in", 1.5),
    ]


def test_records_of_libraries_have_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's record comes out alike: its message is the event, `logger` says whose it is."""
    logs.configure("info", "json")
    logging.getLogger("django.request").warning("Not Found: %s", "/x")
    (line,) = lines(capsys)
    assert line.pop("timestamp")
    assert line == {"level": "warning", "event": "Not Found: /x", "logger": "django.request"}


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not written."""
    logs.configure("warning", "json")
    log.info("bus.connected")
    log.warning("bus.demoted")
    assert [line["event"] for line in lines(capsys)] == ["bus.demoted"]


def test_configured_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A later configuration replaces the earlier one, for loggers already used too."""
    logs.configure("error", "json")
    log.debug("connection.opened")
    logs.configure("debug", "json")
    log.debug("connection.opened")
    assert len(lines(capsys)) == 1
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("django.db.backends", logging.DEBUG),
        ("django", logging.DEBUG),
        ("mysite.views", logging.DEBUG),
        ("websockets.server", logging.INFO),
        ("redis", logging.INFO),
        ("asyncio", logging.INFO),
    ],
)
def test_chatter_never_passes(name: str, level: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Even at debug, libraries don't show parameters and headers, or repeat our own events."""
    logs.configure("debug", "json")
    logging.getLogger(name).log(level, "SELECT token FROM secrets")
    assert not lines(capsys)


def test_debug_of_libraries_never_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """A level that is lowered after the configuration lets nothing of theirs through."""
    logs.configure("debug", "json")
    logger = logging.getLogger("django.db.backends")
    logger.setLevel(logging.DEBUG)
    logger.debug("SELECT token FROM secrets")
    logger.setLevel(logging.NOTSET)
    assert not lines(capsys)


@pytest.mark.parametrize("name", ["websockets.server", "redis", "asyncio", "django.db.backends"])
def test_warnings_of_libraries_pass(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A library's warning is worth a line."""
    logs.configure("info", "json")
    logging.getLogger(name).warning("careful")
    assert [line["logger"] for line in lines(capsys)] == [name]


def test_django_has_no_handlers_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What the site's LOGGING has set up is replaced: no mail to admins, no second line."""
    logging.config.dictConfig(SITE_LOGGING)
    logs.configure("info", "json")
    logging.getLogger("django.server").error("oops")
    assert [line["event"] for line in lines(capsys)] == ["oops"]
    assert not logging.getLogger("django").handlers


def test_secrets_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    """No secret is written, in a field, a message or an exception's text."""
    logs.configure("debug", "json")
    log.info("bus.connected", token="hunter2", url="redis://:hunter2@h", more={"cookie": "hunter2"})
    logging.getLogger("redis").warning("can't reach %s", "redis://:hunter2@h")
    log.error("auth.error", exc_info=ValueError("redis://:hunter2@h"))
    assert "hunter2" not in capsys.readouterr().err


def test_exception_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception with an event of ours is its class and message, not a traceback."""
    logs.configure("info", "json")
    log.warning("bus.disconnected", exc_info=ConnectionError("no route"))
    (line,) = lines(capsys)
    assert line["error"] == "ConnectionError: no route"
    assert "traceback" not in line


@pytest.mark.parametrize(("level", "event"), [("info", "service.failed"), ("debug", "bus.gap")])
def test_traceback_is_one_field(level: str, event: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A crash keeps its traceback, in one field; at debug every exception does."""
    logs.configure(level, "json")
    log.critical(event, exc_info=ValueError("oops"))
    (line,) = lines(capsys)
    assert line["error"] == "ValueError: oops"
    assert line["traceback"] == "ValueError: oops"


def test_traceback_of_a_library_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library reports as an exception was foreseen by nobody: its traceback is kept."""
    logs.configure("info", "json")
    try:
        int("oops")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    (line,) = lines(capsys)
    assert line["traceback"].startswith("Traceback (most recent call last):\n")


def test_no_exception_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for an exception where there is none, a line has none."""
    logs.configure("info", "json")
    log.warning("bus.disconnected", exc_info=True)  # noqa: LOG014 - this mistake is the test
    assert "error" not in lines(capsys)[0]


def test_record_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """A record that can't be written leaves a line without its content, and nothing is raised."""
    logs.configure("info", "json")
    logging.getLogger("django").warning("%d", "hunter2")
    error = capsys.readouterr().err
    assert error == "notifyd: a record of django was not logged: TypeError\n"


def test_standard_error_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a standard error nothing is written and nothing is raised."""
    logs.configure("info", "json")
    monkeypatch.setattr(sys, "stderr", None)
    log.info("bus.connected")


def test_unknown_format() -> None:
    """A format that doesn't exist is a mistake, and changes nothing."""
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match="no such log format: xml"):
        logs.configure("info", "xml")
    assert logging.getLogger().handlers == before


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines for people have the event, its fields and the traceback, and no colours in a file."""
    logs.configure("debug", "console")
    log.warning("bus.disconnected", retry_in=1.5, exc_info=ValueError("oops"))
    error = capsys.readouterr().err
    assert re.search(
        r"\[warning *\] bus.disconnected +error='ValueError: oops' retry_in=1.5", error
    )
    assert error.endswith("\nValueError: oops\n")
    assert "\x1b" not in error


def test_terminal_has_colours() -> None:
    """On a terminal the format is console, in colours."""
    reader, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", SAY], stderr=terminal, check=True)
    assert b"\x1b[" in os.read(reader, 10_000)
    os.close(terminal)
    os.close(reader)


def test_pipe_gets_json() -> None:
    """Where standard error is neither the journal nor a terminal, the format is JSON."""
    result = subprocess.run([sys.executable, "-c", SAY], stderr=subprocess.PIPE, check=True)
    assert json.loads(result.stderr)["event"] == "bus.connected"


@pytest.mark.usefixtures("capfd")
def test_journal_is_recognized(journal: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where JOURNAL_STREAM names standard error's device and inode, the format is journal."""
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    logs.configure(socket_path=journal.getsockname())
    log.info("bus.connected")
    assert received(journal)["NOTIFYD_EVENT"] == "bus.connected"


def test_redirected_stderr_is_not_the_journal(
    journal: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where standard error leads elsewhere, the journal's variable means nothing."""
    monkeypatch.setenv("JOURNAL_STREAM", f"{os.fstat(2).st_dev}:1")
    logs.configure(socket_path=journal.getsockname())
    log.info("bus.connected")
    assert len(lines(capsys)) == 1


def test_journal_entry(journal: socket.socket) -> None:
    """In the journal, fields are fields and the message is a sentence for people."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    log.warning("bus.disconnected", error="no route", retry_in=1.5, id=None)
    entry = received(journal)
    assert int(entry.pop("CODE_LINE"))
    assert entry == {
        "MESSAGE": 'bus.disconnected error="no route" retry_in=1.5',
        "MESSAGE_ID": logs.EVENTS["bus.disconnected"].id,
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "notifyd",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_journal_entry",
        "NOTIFYD_EVENT": "bus.disconnected",
        "NOTIFYD_ERROR": "no route",
        "NOTIFYD_RETRY_IN": "1.5",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_priorities(level: str, priority: str, journal: socket.socket) -> None:
    """In the journal, levels are the priorities of syslog."""
    logs.configure("debug", "journal", socket_path=journal.getsockname())
    log.log(logging.getLevelNamesMapping()[level.upper()], "bus.gap")
    assert received(journal)["PRIORITY"] == priority


def test_journal_entry_of_a_library(journal: socket.socket) -> None:
    """A library's message is no event to search for; its logger is."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    logging.getLogger("django.request").error("oops")
    entry = received(journal)
    assert entry["MESSAGE"] == "oops logger=django.request"
    assert entry["NOTIFYD_LOGGER"] == "django.request"
    assert not {"NOTIFYD_EVENT", "MESSAGE_ID"} & {*entry}


def test_event_that_is_no_key_event(journal: socket.socket) -> None:
    """In the journal, an event that nobody waits for has no MESSAGE_ID."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    log.info("service.starting")
    log.info("not.in_the_table")
    assert "MESSAGE_ID" not in received(journal)
    assert "MESSAGE_ID" not in received(journal)


def test_traceback_in_the_journal(journal: socket.socket) -> None:
    """A crash's traceback is a field, and follows the first line of the message."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    log.critical("service.failed", exc_info=ValueError("a\nPRIORITY=7"))
    entry = received(journal)
    assert entry["MESSAGE"].startswith(
        'service.failed error="ValueError: a PRIORITY=7"\nValueError'
    )
    assert entry["NOTIFYD_TRACEBACK"] == "ValueError: a\nPRIORITY=7"
    assert entry["PRIORITY"] == "2"


def test_large_entry_goes_as_a_sealed_file(journal: socket.socket) -> None:
    """What is too large for a datagram is sent as a sealed file in memory, with no payload."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    log.info("event.rejected", detail="x" * 1_000_000)
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    payload, ancillary, _, _ = journal.recvmsg(1, room)
    ((_, _, rights),) = ancillary
    (descriptor,) = array.array("i", rights)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == seals
    entry = decode(os.pread(descriptor, 3_000_000, 0))
    os.close(descriptor)
    assert payload == b""
    assert entry["NOTIFYD_DETAIL"] == "x" * 1_000_000


def test_journal_is_gone(journal: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the journal's socket, lines go to standard error as JSON until it is back."""
    path = journal.getsockname()
    logs.configure("info", "journal", socket_path=path)
    Path(path).unlink()
    log.info("bus.connected")
    assert [line["event"] for line in lines(capsys)] == ["bus.connected"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as back:
        back.bind(path)
        log.info("bus.demoted")
        assert received(back)["NOTIFYD_EVENT"] == "bus.demoted"


def test_journal_that_does_not_read(
    journal: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal that has fallen behind stops nobody: what it doesn't take goes to stderr."""
    logs.configure("info", "journal", socket_path=journal.getsockname())
    for _ in range(2_000):
        log.info("bus.connected", source="x" * 1_000)
    assert lines(capsys)


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Yield the level, the event and the fields of every line that the daemon logs.

    What the app logs, in the site's process, are sentences.
    """
    package = Path(notifyd.__file__).parent
    for path in {*package.rglob("*.py")} - {*(package / "django").rglob("*.py")}:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=method),
                    args=[ast.Constant(value=str(event))],
                    keywords=keywords,
                ):
                    fields = {word.arg for word in keywords if word.arg} - {"exc_info"}
                    yield method.replace("exception", "error"), event, fields


def test_table_is_complete() -> None:
    """Every event that notifyd logs is in the table, with its level and its fields."""
    table = logs.EVENTS
    assert not [
        (level, event, fields)
        for level, event, fields in calls()
        if event not in table
        or level != table[event].level
        or not fields <= set(table[event].fields)
    ]
