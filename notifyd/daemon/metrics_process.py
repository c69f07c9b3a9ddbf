"""What the kernel knows of this process, under the names that Prometheus' client libraries share.

The Python library's own collector lists all open files at each scrape: with ten thousand clients
that is most of what a scrape takes.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC: Final = Path("/proc/self")


class Process(Collector):
    """The metrics of the process in which it is built, all of them read at each scrape."""

    def __init__(self) -> None:
        # proc(5): the fields behind the name, which is in brackets; the 22nd is when it started.
        fields = (_PROC / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        since_boot = int(fields.split()[19]) / os.sysconf("SC_CLK_TCK")
        now, boot_clock = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        self._started = now - (boot_clock - since_boot)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Read them, for the registry."""
        page = os.sysconf("SC_PAGE_SIZE")
        pages, resident = (_PROC / "statm").read_text(encoding="ascii").split()[:2]
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for name, help_, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", int(pages) * page),
            ("resident_memory_bytes", "Resident memory size in bytes.", int(resident) * page),
            ("start_time_seconds", "Start time as Unix time in seconds.", self._started),
            ("open_fds", "Number of open file descriptors.", open_files()),
            ("max_fds", "Maximum number of open file descriptors.", limit),
        ):
            yield GaugeMetricFamily(f"process_{name}", help_, value)
        yield CounterMetricFamily(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            time.process_time(),
        )

    def describe(self) -> list[GaugeMetricFamily]:
        """Name nothing in advance: that spares a look at all of it."""
        return []


def open_files() -> int:
    """Return how many files this process has open."""
    # Since Linux 6.2 the directory's size is their number; before, it was 0.
    folder = _PROC / "fd"
    return folder.stat().st_size or len(os.listdir(folder))  # noqa: PTH208 - a path for each would be slow
