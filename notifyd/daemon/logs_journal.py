"""Where records are written under systemd: the journal, by its own protocol.

Sources: the Native Journal Protocol (systemd.io) and systemd.journal-fields(7).
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import logging
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from notifyd.core import journal
from notifyd.core.records import EVENTS
from notifyd.daemon.logs_streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.daemon.logs_streams import Rules

JOURNAL: Final = "/run/systemd/journal/socket"
"""The journal's socket."""


class Journal(Stream):
    """Entries of the systemd journal; JSON on standard error while its socket is gone."""

    def __init__(self, path: str, rules: Rules, *, fold: float, clock: Callable[[], float]) -> None:
        super().__init__(json.dumps, rules, fold=fold, clock=clock)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A journal that has fallen behind must not stop the event loop. Standard error, which
        # leads there too, has a buffer of its own for what this socket doesn't take.
        self._socket.setblocking(False)

    def close(self) -> None:
        """Hold nothing back any more, and release the socket."""
        super().close()
        self._socket.close()

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
    entry = {
        "PRIORITY": _priority(record.levelno),
        "SYSLOG_IDENTIFIER": "notifyd",
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    if "logger" not in own:
        own["event"] = event
        if event in EVENTS and (id_ := EVENTS[event].id):
            entry["MESSAGE_ID"] = id_
    if lines is not None:
        message, own["traceback"] = f"{message}\n{lines}", lines
    known = {name: value for name, value in own.items() if value is not None}
    named = {journal.field_name(name): journal.text(value) for name, value in known.items()}
    return journal.encode_entry({"MESSAGE": message, **entry, **named})


def _priority(level: int) -> str:
    # syslog(3): 2 critical, 3 error, 4 warning, 6 informational, 7 debug.
    steps = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
    return str(next((priority for step, priority in steps.items() if level >= step), 7))
