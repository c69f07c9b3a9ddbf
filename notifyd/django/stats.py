"""What became of what this process had to write, in numbers for the site's monitoring."""

from __future__ import annotations

import threading
from typing import Final

from notifyd.django.bus import Reason


class Stats:
    """How many events were published, and how many failed why; and the same of the controls.

    `controls` counts the control entries that were written, `controls_failed` those that were not
    at the first attempt, and `controls_pending` is how many of the latter wait to be written.
    """

    def __init__(self) -> None:
        self.published = 0
        self.failures: dict[str, int] = dict.fromkeys(map(str, Reason), 0)
        self.controls = 0
        self.controls_failed = 0
        self.controls_pending = 0
        self._lock = threading.Lock()

    def succeeded(self, count: int) -> None:
        """Count events that were published."""
        with self._lock:
            self.published += count

    def failed(self, reason: Reason, count: int) -> None:
        """Count events that were not, or perhaps not."""
        with self._lock:
            self.failures[reason] += count

    def control(self, *, written: bool) -> None:
        """Count a control entry that was written, or one that was not at the first attempt."""
        with self._lock:
            if written:
                self.controls += 1
            else:
                self.controls_failed += 1

    def forked(self) -> None:
        """Be of use to the child of a fork, whatever another thread was doing at that moment."""
        self._lock = threading.Lock()
        self.controls_pending = 0


stats: Final = Stats()
"""The counts of this process."""
