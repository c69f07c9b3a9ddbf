"""What all tests share: servers to run against, an end to hanging, and no skip unseen."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from postgres import PostgresServer
from servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SKIPS = Path(__file__).parent / "skips.txt"

# Seconds that a test may take, and its setup and its teardown; and those of one marked `long`.
LIMIT = 60
LONG_LIMIT = 900

# How long an example takes says something about the machine and its other work, not about us.
# CI tries the same examples each time: what fails there is the fault of the change.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# A developer, who waits, tries a quarter of them, and others each time.
settings.register_profile("quick", settings.get_profile("ci"), derandomize=False, max_examples=25)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "quick")


def pytest_collection_finish() -> None:
    """Keep what all tests share, and the tests themselves, out of each later garbage collection.

    Thousands of tests are a heap on which one takes half a second; some tests call for one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give an empty folder with a path short enough for a Unix socket, which tmp_path has not."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        yield Path(name)


@pytest.fixture
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Give a fresh Redis server that keeps its data when it is killed."""
    with RedisServer(folder, persistent=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give the one PostgreSQL server of this run: leave it running, create your own database."""
    with (
        tempfile.TemporaryDirectory(prefix="notifyd-") as name,
        PostgresServer(Path(name)) as server,
    ):
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """End a fixture that hangs."""
    with _limited(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """End a test that hangs."""
    with _limited(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """End a fixture that hangs after its test."""
    with _limited(item):
        yield


@contextlib.contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    seconds = LONG_LIMIT if item.get_closest_marker("long") else LIMIT

    def expire(*_: object) -> None:
        # Threads and tasks say where they are: the failure itself is raised wherever the main
        # thread happens to be, which for a waiting event loop tells nothing.
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        with contextlib.suppress(RuntimeError):
            for task in asyncio.all_tasks():
                task.print_stack()
        pytest.fail(f"still not done after {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    # It rings again: the first failure may be lost in a task that nobody waits for.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge the skips inside tests and fixtures."""
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge the skips of whole modules."""
    report = yield
    _judge(report)
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is a skip by another name: pytest marks its report the same way.
    if not report.skipped or os.environ.get("CI") != "true":
        return
    reason = str(getattr(report, "wasxfail", ""))
    if not reason and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
    line = f"{report.nodeid}: {reason}"
    if line not in SKIPS.read_text().splitlines():
        report.outcome = "failed"
        report.longrepr = f"A skip that tests/skips.txt does not allow: {line}"
