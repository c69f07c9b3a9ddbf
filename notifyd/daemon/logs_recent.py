"""The latest warnings and errors, kept for `notifyd status`."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from notifyd.daemon.logs_records import kind, shape

if TYPE_CHECKING:
    from collections.abc import Hashable

MOST: Final = 20
"""How many kinds of lines are kept."""


class Recent(logging.Handler):
    """Keeps what was warned of last, from the level warning up: of each kind the latest line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: OrderedDict[Hashable, tuple[dict[str, Any], int]] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record; never raise, as logging demands of its handlers."""
        # Whatever goes wrong with the record, the handler that writes it tells.
        with suppress(Exception):
            # Shaped at once: a record holds on to whatever its exception has gone through.
            line = shape(record, verbose=False)
            line.pop("traceback", None)
            alike = kind(record)
            if alike is None:
                alike = record.name, record.msg
            _, times = self._kept.pop(alike, ({}, 0))
            self._kept[alike] = line, times + 1
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines, the latest first, each with how many `times` its kind has come."""
        assert self.lock is not None
        with self.lock:
            return [line | {"times": times} for line, times in reversed(self._kept.values())]
