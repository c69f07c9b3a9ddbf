"""Controls that Redis has not taken: a thread repeats them until it has, and events wait.

An event that overtook a revocation would reach those who may no longer see it. Repeating does no
harm: a control that is written twice means the same, and so one that may have been written counts
as not written.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from notifyd.django import tracing
from notifyd.django.bus import SETTINGS, BusError, PublishError, Reason, connect, stream_key
from notifyd.django.controls import Controls
from notifyd.django.stats import stats

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from notifyd.django.settings import Settings

log = logging.getLogger("notifyd")

FIRST: Final = 0.1
"""Seconds until the first repetition; each pause is twice as long as the one before."""

LONGEST: Final = 2.0
"""Seconds between two repetitions, at most: for so long Redis may be back without a revocation."""

OVERDUE: Final = 10.0
"""Seconds without a repetition after which the thread is taken for dead."""


class Outbox:
    """The way of controls to the bus, and what has not arrived there."""

    def __init__(self) -> None:
        self._generation = 0
        self.forked()

    def forked(self) -> None:
        """Be empty in the child of a fork: the parent has what is pending, and the thread."""
        self._settings: Settings | None = None
        self._waiting = Controls()
        self._entries = 0
        self._tried = 0.0
        self._runs = False
        self._lock = threading.Lock()
        self._forgotten = threading.Condition(self._lock)
        self._writing = threading.Lock()

    def forget(self) -> None:
        """Have nothing pending: the settings have changed."""
        with self._lock:
            self._generation += 1
            self._waiting = Controls()
            self._runs = False
            self._count(0)
            self._forgotten.notify_all()

    def withholds(self) -> bool:
        """Tell whether events have to wait for a control."""
        if self._entries and time.monotonic() - self._tried > OVERDUE:
            # There are servers that run no threads, as uWSGI without enable-threads.
            self.repeat(blocking=False)
        return self._entries > 0

    def send(
        self, settings: Settings, controls: Controls, *, within: Context | None = None
    ) -> BusError | None:
        """Write an entry now, or keep it to be repeated, and return what went wrong.

        It isn't raised: whoever revokes something has done so, whether Redis is there or not.
        `within` is what it belongs to in traces. A repetition, for many at once, belongs to none.
        """
        if self.withholds():
            self._keep(settings, controls)
            return PublishError(Reason.WITHHELD, "an earlier control is not written yet")
        try:
            tracing.write(
                connect(settings).write,
                [controls.encode()],
                stream=stream_key(settings.prefix),
                within=within,
            )
        except ImproperlyConfigured as error:
            # No repetition will find an address.
            stats.control(written=False)
            log.error("control not published: %s", error)  # noqa: TRY400 - the text says it all
            return PublishError(Reason.ADDRESS, str(error))
        except BusError as error:
            self._keep(settings, controls)
            log.error(  # noqa: TRY400 - what is behind it may contain a password
                "control not published: %s; until it is, this process publishes no event", error
            )
            return error
        stats.control(written=True)
        return None

    def repeat(self, *, blocking: bool = True) -> None:
        """Try once to write what is pending, as one entry; or not, if somebody else is at it."""
        if not self._writing.acquire(blocking=blocking):
            return
        try:
            self._repeat()
        finally:
            self._writing.release()

    def close(self) -> None:
        """Try a last time, and say what is lost: the process ends."""
        if self._entries:
            self.repeat()
        if self._entries:
            log.error(
                "%d control(s) not published: notifyd learns of them when it reads everybody's "
                "permissions anew",
                self._entries,
            )

    def _repeat(self) -> None:
        with self._lock:
            settings, controls, entries = self._settings, self._waiting, self._entries
            generation = self._generation
            self._tried = time.monotonic()
            if settings is None or not entries:
                return
            # What comes while it is being written is not in it.
            self._waiting = Controls()
        written = _written(settings, controls)
        with self._lock:
            if generation != self._generation:
                return
            if not written:
                self._waiting.merge(controls)
                return
            self._count(self._entries - entries)
        stats.control(written=True)
        log.warning("%d control(s) published at last", entries)

    def _keep(self, settings: Settings, controls: Controls) -> None:
        stats.control(written=False)
        with self._lock:
            self._settings = settings
            self._waiting.merge(controls)
            if not self._entries:
                self._tried = time.monotonic()
            self._count(self._entries + 1)
            if self._runs:
                return
            thread = threading.Thread(
                target=self._run, args=(self._generation,), name="notifyd-outbox", daemon=True
            )
            # An interpreter that ends starts no more threads: close() is still to come.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._runs = True

    def _run(self, generation: int) -> None:
        pause = FIRST
        while self._pauses(pause, generation):
            self.repeat()
            pause = min(2 * pause, LONGEST)

    def _pauses(self, seconds: float, generation: int) -> bool:
        """Wait, and tell whether something is left to do for the thread of this generation."""
        with self._lock:
            if generation == self._generation and self._entries:
                # The processes of a site all begin at the same moment.
                self._forgotten.wait(seconds * random.uniform(0.5, 1))  # noqa: S311 - no secret
            if generation != self._generation:
                return False
            self._runs = self._entries > 0
            return self._runs

    def _count(self, entries: int) -> None:
        self._entries = stats.controls_pending = entries


def _written(settings: Settings, controls: Controls) -> bool:
    try:
        connect(settings).write([controls.encode()], anyway=True)
    except (BusError, ImproperlyConfigured):
        return False
    return True


outbox: Final = Outbox()
"""The one of this process."""


def _forget(*, setting: str, **_: object) -> None:
    if setting in SETTINGS:
        outbox.forget()


def _forked() -> None:
    stats.forked()
    outbox.forked()


setting_changed.connect(_forget, dispatch_uid="notifyd.outbox")
atexit.register(outbox.close)
# Windows knows no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
