"""Records of logging: how an event of ours becomes one, and what all of them look like.

The shape is a dict: `timestamp`, `level`, `event` (a `noun.verb` of `EVENTS`), then the event's
fields. Records of other libraries come out alike: `event` is their message, `logger` their name.
"""

from __future__ import annotations

import datetime as dt
import logging
import traceback
from typing import TYPE_CHECKING, Any, Final

import structlog

from notifyd.core.records import EVENTS
from notifyd.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

OURS: Final = "notifyd"
"""The first word of the names of our loggers."""

_FIELDS: Final = "notifyd_fields"


def _to_record(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    # The fields travel in one attribute of the record: as attributes of their own, one called
    # `name` or `args` would collide with the record's.
    exc_info = event.pop("exc_info", None)
    return (event.pop("event"),), {"exc_info": exc_info, "extra": {_FIELDS: event}}


# One list for all times: loggers keep it once they are used, whatever is configured later.
PROCESSORS: Final[list[structlog.typing.Processor]] = [
    structlog.stdlib.filter_by_level,
    _to_record,
]


def part(record: logging.LogRecord) -> str:
    """Return the part of the log that the record belongs to, as `notifyd.core.levels` has them."""
    if _fields(record) is None:
        return record.name.partition(".")[0]
    return str(record.msg).partition(".")[0]


def kind(record: logging.LogRecord) -> Hashable | None:
    """Return what the record has in common with those it is folded with; None: it is told.

    Ours go by the table; a line about a user is that user's, and told. A library's are alike if
    the same place in its code has logged them, about the same class of exception.
    """
    if record.levelno >= logging.CRITICAL:
        return None
    fields = _fields(record)
    if fields is None:
        error = record.exc_info[0] if record.exc_info else None
        return record.name, record.pathname, record.lineno, error
    event = EVENTS.get(record.msg)
    if event is None or event.alike is None or fields.get("user") is not None:
        return None
    return record.msg, *(str(fields.get(name)) for name in event.alike)


def shape(record: logging.LogRecord, *, verbose: bool) -> dict[str, Any]:
    """Return what `record` says as a flat dict that is safe to show and to serialize.

    `verbose` adds the traceback of an exception that an event of ours explains in a line.
    """
    moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
    shaped: dict[str, Any] = {
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    fields = _fields(record)
    shaped |= {"logger": record.name} if fields is None else fields
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        shaped.setdefault("error", error)
        # An event of ours explains itself in one line; only what nobody foresaw needs more.
        if verbose or fields is None or record.levelno >= logging.CRITICAL:
            shaped["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    return {name: redact(value, name) for name, value in shaped.items()}


def _fields(record: logging.LogRecord) -> Mapping[str, Any] | None:
    """Return the fields of an event of ours; None for the record of a library."""
    fields: Mapping[str, Any] | None = getattr(record, _FIELDS, None)
    return fields
