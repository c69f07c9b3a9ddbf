"""Logs: every record of this process in one shape, written where it will be read.

The shape is that of `logs_records`. It becomes JSON lines or coloured lines on standard error, or
an entry of the systemd journal.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from notifyd.core.levels import LIBRARIES, by_part
from notifyd.core.records import EVENTS
from notifyd.daemon.logs_journal import JOURNAL, Journal
from notifyd.daemon.logs_recent import Recent
from notifyd.daemon.logs_records import OURS, PROCESSORS
from notifyd.daemon.logs_streams import Rules, Stream, console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["EVENTS", "JOURNAL", "configure", "flush", "remember", "tick"]

# The floor of each family of loggers, unless it has a level of its own. The debug lines of Django's
# database backends show parameters, those of websockets show headers: only ours are let through.
# What websockets and redis say below a warning repeats our own connection.* and bus.* events.
_FLOORS: Final = {
    "": logging.INFO,
    "asyncio": logging.WARNING,
    "redis": logging.WARNING,
    "websockets": logging.WARNING,
}


def configure(
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the name of the option
    *,
    levels: Iterable[str] = (),
    fold: float = 0.0,
    socket_path: str = JOURNAL,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write every record of this process from `level` up, in `format`; may be called again.

    `format` is json, console, journal or auto: the journal if standard error leads there, colours
    on a terminal, else JSON. `levels` are other levels for parts (`notifyd.core.levels`). Lines
    that repeat within `fold` seconds, by `clock`, are folded (0: none): have `tick` called then.
    Handlers and levels that anybody else has set are dropped: call this after `django.setup()`,
    which applies the site's LOGGING. `socket_path` is the journal's socket.
    """
    numbers = logging.getLevelNamesMapping()
    threshold = numbers[level.upper()]
    parts = {part: numbers[each.upper()] for part, each in by_part(levels).items()}
    rules = Rules(threshold, parts)
    handler: logging.Handler
    match _suitable(os.environ) if format == "auto" else format:
        case "json":
            handler = Stream(json.dumps, rules, fold=fold, clock=clock)
        case "console":
            handler = Stream(console(), rules, fold=fold, clock=clock)
        case "journal":
            handler = Journal(socket_path, rules, fold=fold, clock=clock)
        case unknown:
            raise ValueError(f"no such log format: {unknown}")
    _clear()
    logging.getLogger().addHandler(handler)
    # Our loggers let through what any part wants; the handler tells the parts apart.
    ours = [each for part, each in parts.items() if part not in LIBRARIES]
    logging.getLogger(OURS).setLevel(min([threshold, *ours]))
    for name in ("", *LIBRARIES):
        least = max(threshold, _FLOORS.get(name, logging.INFO))
        logging.getLogger(name).setLevel(parts.get(name, least))
    structlog.configure(
        processors=PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def remember() -> Recent:
    """Return what keeps the latest warnings and errors from now on, however logs are configured."""
    recent = Recent()
    logging.getLogger().addHandler(recent)
    return recent


def tick() -> None:
    """Write what stands for folded lines whose time is over."""
    for stream in _streams():
        stream.tick()


def flush() -> None:
    """Write what stands for all folded lines: the process ends."""
    for stream in _streams():
        stream.flush()


def _streams() -> Iterator[Stream]:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Stream):
            yield handler


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
            if isinstance(handler, Recent):
                continue
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.disabled = False
