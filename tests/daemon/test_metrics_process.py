from __future__ import annotations

import contextlib
import os
import resource
import time

from prometheus_client import CollectorRegistry, ProcessCollector

from notifyd.daemon.metrics_process import Process, open_files


def samples(*, ours: bool) -> dict[str, float]:
    """Return the values of our collector, or those of the library's."""
    registry = CollectorRegistry()
    if ours:
        registry.register(Process())
    else:
        ProcessCollector(registry=registry)
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


def test_names_are_those_of_the_library() -> None:
    """Dashboards made for other processes find the same names."""
    assert samples(ours=True).keys() == samples(ours=False).keys()


def test_values_are_those_of_the_library() -> None:
    """Memory, processor time and the start are what the library says, but for the time between."""
    theirs, ours = samples(ours=False), samples(ours=True)
    assert abs(ours["process_start_time_seconds"] - theirs["process_start_time_seconds"]) < 2
    assert 0 <= ours["process_cpu_seconds_total"] - theirs["process_cpu_seconds_total"] < 2
    for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes"):
        assert 0.9 < ours[name] / theirs[name] < 1.1
    assert ours["process_start_time_seconds"] < time.time()


def test_open_files() -> None:
    """The open files are counted, and shown beside their limit."""
    before = open_files()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.callback(os.close, os.dup(0))
        assert open_files() == before + 100
        shown = samples(ours=True)
        assert shown["process_open_fds"] == before + 100
    assert shown["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
