"""Where records are written: standard error, and what all handlers have in common."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from notifyd.core.folding import Folds
from notifyd.daemon.logs_records import OURS, kind, part, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Rules:
    """What is written: the least level (logging's numbers) of everything, and of some parts."""

    def __init__(self, level: int, parts: Mapping[str, int]) -> None:
        self._level = level
        self._parts = parts

    def least(self, part: str) -> int:
        """Return the least level of a part."""
        return self._parts.get(part, self._level)

    def admits(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is written (a filter of logging)."""
        if record.name.partition(".")[0] == OURS:
            return record.levelno >= self.least(part(record))
        # Levels may be lowered later by code of the site; this line holds all the same.
        return record.levelno >= logging.INFO

    def verbose(self, record: logging.LogRecord) -> bool:
        """Tell whether all is to be told about the part that the record belongs to."""
        return self.least(part(record)) <= logging.DEBUG


class Stream(logging.Handler):
    """One line per record on standard error; those that repeat within `fold` seconds are folded.

    Whoever wants to know all about a part, at level debug, is told each of its lines. `clock` gives
    monotonic seconds.
    """

    def __init__(
        self,
        render: Callable[[dict[str, Any]], str],
        rules: Rules,
        *,
        fold: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self._render = render
        self._rules = rules
        self._fold = fold
        self._folds: Folds[logging.LogRecord] = Folds(fold)
        self._clock = clock
        self.addFilter(rules.admits)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or hold it back; never raise, as logging demands of its handlers."""
        now = self._clock()
        self._tell_due(now)
        alike = kind(record) if self._fold and not self._rules.verbose(record) else None
        if alike is None or not self._folds.holds(alike, record, now):
            self._tell(record)

    def tick(self) -> None:
        """Write what stands for lines that were held back and whose time is over."""
        assert self.lock is not None
        with self.lock:
            self._tell_due(self._clock())

    def flush(self) -> None:
        """Write what stands for all lines that are held back (logging calls it at the end)."""
        assert self.lock is not None
        with self.lock:
            for record, repeated in self._folds.rest():
                self._tell(record, repeated=repeated)

    def close(self) -> None:
        """Hold nothing back any more, and be forgotten by logging."""
        self.flush()
        super().close()

    def _tell_due(self, now: float) -> None:
        for record, repeated in self._folds.due(now):
            self._tell(record, repeated=repeated)

    def _tell(self, record: logging.LogRecord, **more: Any) -> None:
        try:
            self._write(record, shape(record, verbose=self._rules.verbose(record)) | more)
        except Exception:  # noqa: BLE001 - a log line is never worth the daemon's life
            self.handleError(record)

    def _write(self, _record: logging.LogRecord, fields: dict[str, Any]) -> None:
        sys.stderr.write(self._render(fields) + "\n")
        sys.stderr.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that a line is missing; logging's own words would show what was to be redacted."""
        with suppress(Exception):
            name = type(sys.exc_info()[1]).__name__
            sys.stderr.write(f"notifyd: a record of {record.name} was not logged: {name}\n")


def console() -> Callable[[dict[str, Any]], str]:
    """Return what renders a record for people, in colours if they sit at a terminal."""
    render = structlog.dev.ConsoleRenderer(
        colors=os.isatty(2), exception_formatter=structlog.dev.plain_traceback
    )

    def line(fields: dict[str, Any]) -> str:
        if "traceback" in fields:
            # Under this name it is shown below the line, not in it.
            fields["exception"] = fields.pop("traceback")
        return str(render(None, "", fields))

    return line
