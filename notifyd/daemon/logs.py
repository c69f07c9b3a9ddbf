"""Logs: every record of this process in one shape, written where it will be read.

The shape is a dict: `timestamp`, `level`, `event` (a `noun.verb` of `EVENTS`), then the event's
fields. Records of other libraries come out alike: `event` is their message, `logger` their name.
It becomes JSON lines or coloured lines on standard error, or an entry of the systemd journal.
"""

from __future__ import annotations

import array
import datetime as dt
import errno
import fcntl
import json
import logging
import os
import socket
import sys
import traceback
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from notifyd.core import journal
from notifyd.core.records import EVENTS
from notifyd.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EVENTS", "JOURNAL", "configure"]

JOURNAL: Final = "/run/systemd/journal/socket"

# The floor of each family of loggers, whatever level is asked for. The debug lines of Django's
# database backends show parameters, those of websockets show headers: only ours are let through.
# What websockets and redis say below a warning repeats our own connection.* and bus.* events.
_FLOORS: Final = {
    "": logging.INFO,
    "asyncio": logging.WARNING,
    "redis": logging.WARNING,
    "websockets": logging.WARNING,
}
_OURS: Final = "notifyd"
_FIELDS: Final = "notifyd_fields"


def configure(
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the name of the option
    *,
    socket_path: str = JOURNAL,
) -> None:
    """Write every record of this process from `level` up, in `format`; may be called again.

    `format` is json, console, journal or auto: the journal if standard error leads there, colours
    on a terminal, else JSON. Handlers and levels that anybody else has set are dropped: call this
    after `django.setup()`, which applies the site's LOGGING. `socket_path` is the journal's socket.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    verbose = threshold <= logging.DEBUG
    handler: logging.Handler
    match _suitable(os.environ) if format == "auto" else format:
        case "json":
            handler = _Stderr(json.dumps, verbose=verbose)
        case "console":
            handler = _Stderr(_console(), verbose=verbose)
        case "journal":
            handler = _Journal(socket_path, verbose=verbose)
        case unknown:
            raise ValueError(f"no such log format: {unknown}")
    _clear()
    handler.addFilter(_admits)
    logging.getLogger().addHandler(handler)
    logging.getLogger(_OURS).setLevel(threshold)
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(max(threshold, floor))
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _suitable(environ: Mapping[str, str]) -> str:
    # systemd tells the device and inode of the stream it made, so that a redirected standard
    # error is not mistaken for it: systemd.exec(5), $JOURNAL_STREAM.
    with suppress(OSError):
        status = os.fstat(2)
        if environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
            return "journal"
    return "console" if os.isatty(2) else "json"


def _clear() -> None:
    known = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for logger in known:
        if not isinstance(logger, logging.Logger):
            continue
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.disabled = False


def _admits(record: logging.LogRecord) -> bool:
    # Levels may be lowered later by code of the site; this line holds all the same.
    return record.levelno >= logging.INFO or record.name.partition(".")[0] == _OURS


def _to_record(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    # The fields travel in one attribute of the record: as attributes of their own, one called
    # `name` or `args` would collide with the record's.
    exc_info = event.pop("exc_info", None)
    return (event.pop("event"),), {"exc_info": exc_info, "extra": {_FIELDS: event}}


# One list for all times: loggers keep it once they are used, whatever is configured later.
_PROCESSORS: Final[list[structlog.typing.Processor]] = [
    structlog.stdlib.filter_by_level,
    _to_record,
]


def _shape(record: logging.LogRecord, *, verbose: bool) -> dict[str, Any]:
    """Return what `record` says as a flat dict that is safe to show and to serialize."""
    moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
    shaped: dict[str, Any] = {
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    fields: dict[str, Any] | None = getattr(record, _FIELDS, None)
    shaped |= {"logger": record.name} if fields is None else fields
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        shaped.setdefault("error", error)
        # An event of ours explains itself in one line; only what nobody foresaw needs more.
        if verbose or fields is None or record.levelno >= logging.CRITICAL:
            shaped["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    return {name: redact(value, name) for name, value in shaped.items()}


def _console() -> Callable[[dict[str, Any]], str]:
    render = structlog.dev.ConsoleRenderer(
        colors=os.isatty(2), exception_formatter=structlog.dev.plain_traceback
    )

    def line(fields: dict[str, Any]) -> str:
        if "traceback" in fields:
            # Under this name it is shown below the line, not in it.
            fields["exception"] = fields.pop("traceback")
        return str(render(None, "", fields))

    return line


class _Stderr(logging.Handler):
    """One line per record on standard error."""

    def __init__(self, render: Callable[[dict[str, Any]], str], *, verbose: bool) -> None:
        super().__init__()
        self._render = render
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; never raise, as logging demands of its handlers."""
        try:
            self._write(record, _shape(record, verbose=self._verbose))
        except Exception:  # noqa: BLE001 - a log line is never worth the daemon's life
            self.handleError(record)

    def _write(self, _record: logging.LogRecord, fields: dict[str, Any]) -> None:
        sys.stderr.write(self._render(fields) + "\n")
        sys.stderr.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that a line is missing; logging's own words would show what was to be redacted."""
        with suppress(Exception):
            kind = type(sys.exc_info()[1]).__name__
            sys.stderr.write(f"notifyd: a record of {record.name} was not logged: {kind}\n")


class _Journal(_Stderr):
    """Entries of the systemd journal; JSON on standard error while its socket is gone.

    Source: the Native Journal Protocol (systemd.io) and systemd.journal-fields(7).
    """

    def __init__(self, path: str, *, verbose: bool) -> None:
        super().__init__(json.dumps, verbose=verbose)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A journal that has fallen behind must not stop the event loop. Standard error, which
        # leads there too, has a buffer of its own for what this socket doesn't take.
        self._socket.setblocking(False)

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        super().close()

    def _write(self, record: logging.LogRecord, fields: dict[str, Any]) -> None:
        entry = _entry(record, fields)
        try:
            try:
                self._socket.sendto(entry, self._path)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_file(entry)
        except OSError:
            super()._write(record, fields)

    def _send_file(self, entry: bytes) -> None:
        # What is too large for a datagram goes as a file in memory, sealed so that the journal
        # need not fear that it changes while it is read.
        descriptor = os.memfd_create("notifyd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
            file.write(entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))
            self._socket.sendmsg([], [rights], 0, self._path)


def _entry(record: logging.LogRecord, fields: dict[str, Any]) -> bytes:
    # The journal has a time of its own; the message of a library is no name to search for.
    own = {name: value for name, value in fields.items() if name not in {"timestamp", "level"}}
    event, lines = own.pop("event"), own.pop("traceback", None)
    message = journal.sentence(event, own)
    if "logger" not in own:
        own["event"] = event
    if lines is not None:
        message, own["traceback"] = f"{message}\n{lines}", lines
    known = {name: value for name, value in own.items() if value is not None}
    return journal.encode_entry(
        {
            "MESSAGE": message,
            "PRIORITY": _priority(record.levelno),
            "SYSLOG_IDENTIFIER": "notifyd",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **{journal.field_name(name): journal.text(value) for name, value in known.items()},
        }
    )


def _priority(level: int) -> str:
    # syslog(3): 2 critical, 3 error, 4 warning, 6 informational, 7 debug.
    steps = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
    return str(next((priority for step, priority in steps.items() if level >= step), 7))
