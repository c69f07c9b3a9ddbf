"""Whether a scrape disturbs delivery: ten thousand clients, and a scraper that comes each second.

A real daemon relays events at a steady rate. Phases without and with scrapes take turns in one
run, since machines are shared and noisy: only ratios mean anything. A scrape asks for the metrics
as text, for those as OpenMetrics, and for readiness. The latency of an event is from before its
publication until the last of the clients has it, by the clock that all processes share.

Fails where the 99th percentile with scrapes is 1.5 times that without, by the medians of the
phases, three times in a row. The tokens are those of the storm: `make scrape` has the tests on
Python's path, as that has.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compare import HOST, machine, progress
from storm import prepare
from storm_sides import Notifyd

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND = 1.5
TRIES = 3
PATHS = {
    "/metrics as text": ("/metrics", "text/plain"),
    "/metrics as OpenMetrics": ("/metrics", "application/openmetrics-text; version=1.0.0"),
    "/readyz": ("/readyz", "*/*"),
}
FIGURES = {"median": 0.5, "p99": 0.99}
"""Of a phase of less than a hundred events the 99th percentile is the slowest."""


@dataclass(frozen=True)
class Plan:
    """How large an experiment is: `rate` in events per second, `seconds` of each phase."""

    clients: int
    users: int
    rate: float
    seconds: float
    rounds: int


@dataclass
class Phases:
    """The latencies of the events of each phase, in seconds."""

    quiet: list[list[float]] = field(default_factory=list)
    scraped: list[list[float]] = field(default_factory=list)


class Daemon(Notifyd):
    """The daemon, with a crowd that waits for one event after the other."""

    crowd = "scrape_load.py"

    def latency(self) -> float:
        """Publish an event, and return the seconds until the last client had it."""
        began = time.monotonic()
        self.publish()
        return float(self.ask("event", "")) - began


class Scraper:
    """Comes each second while it is `at_work`; notes how long each answer took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.took: dict[str, list[float]] = {name: [] for name in PATHS}

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Scrape for the length of a block."""
        ends = threading.Event()
        thread = threading.Thread(target=self._run, args=(ends,))
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def ask(self, name: str) -> None:
        """Ask for one of the paths."""
        path, accept = PATHS[name]
        request = urllib.request.Request(
            f"http://{HOST}:{self._port}{path}", headers={"Accept": accept}
        )
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            answer.read()
        self.took[name].append(time.monotonic() - began)

    def _run(self, ends: threading.Event) -> None:
        while not ends.wait(1.0):
            for name in PATHS:
                self.ask(name)


def main() -> int:
    """Run the experiment and print its table; return 1 where scrapes disturb it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000, help="all together")
    parser.add_argument("--users", type=int, default=1_000, help="whose clients they are")
    parser.add_argument("--rate", type=float, default=4.0, help="events per second")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a phase")
    parser.add_argument("--rounds", type=int, default=4, help="phases of each kind")
    plan = Plan(**vars(parser.parse_args()))
    print(f"{machine()}; {plan.clients} clients, {plan.rate:g} events a second", flush=True)
    with tempfile.TemporaryDirectory(prefix="scrape") as folder:
        daemon = Daemon(prepare(Path(folder), plan.users, "sqlite"), plan.clients)
        with daemon.prepared(), daemon.serving():
            progress(f"connecting {plan.clients} clients")
            daemon.ask("connect", "")
            # A neighbour on a shared machine can spoil a run; what disturbs does so every time.
            for _ in range(TRIES):
                ratio = experiment(daemon, plan)
                if ratio <= BOUND:
                    return 0
    print(f"scrapes disturb: the 99th percentile is {ratio:.2f} times that without them")
    return 1


def experiment(daemon: Daemon, plan: Plan) -> float:
    """Let phases of both kinds take turns, print the table, and return the ratio that is bound."""
    scraper, phases = Scraper(daemon.admin_port), Phases()
    phase(daemon, plan)
    for number in range(1, plan.rounds + 1):
        progress(f"round {number} of {plan.rounds}")
        phases.quiet.append(phase(daemon, plan))
        with scraper.at_work():
            phases.scraped.append(phase(daemon, plan))
    # Nothing is delivered meanwhile, so that this is what the answers themselves take.
    idle = Scraper(daemon.admin_port)
    for _ in range(20):
        for name in PATHS:
            idle.ask(name)
    print_table(phases, scraper, idle)
    return figure(phases.scraped, "p99") / figure(phases.quiet, "p99")


def phase(daemon: Daemon, plan: Plan) -> list[float]:
    """Publish at the plan's rate, each when the last has reached all; return the latencies."""
    latencies = []
    due = time.monotonic()
    ends = due + plan.seconds
    while due < ends:
        time.sleep(max(0.0, due - time.monotonic()))
        latencies.append(daemon.latency())
        due = max(due + 1 / plan.rate, time.monotonic())
    return latencies


def figure(phases: list[list[float]], name: str) -> float:
    """Return the median of the phases' medians or 99th percentiles."""
    of_phases = []
    for latencies in phases:
        ordered = sorted(latencies)
        of_phases.append(ordered[min(len(ordered) - 1, int(FIGURES[name] * len(ordered)))])
    return statistics.median(of_phases)


def print_table(phases: Phases, scraper: Scraper, idle: Scraper) -> None:
    """Print the latencies of both kinds and their ratios, and how long answers took."""
    print("\n| latency to the last client | without scrapes | with scrapes | ratio |")
    print("|---|---|---|---|")
    for name in FIGURES:
        quiet, scraped = figure(phases.quiet, name), figure(phases.scraped, name)
        print(f"| {name} | {quiet * 1e3:.0f} ms | {scraped * 1e3:.0f} ms | {scraped / quiet:.2f} |")
    print("\n| scrape | median, idle | median, during delivery | longest |")
    print("|---|---|---|---|")
    for name in PATHS:
        alone, busy = statistics.median(idle.took[name]), statistics.median(scraper.took[name])
        longest = max(scraper.took[name])
        print(f"| {name} | {alone * 1e3:.1f} ms | {busy * 1e3:.1f} ms | {longest * 1e3:.1f} ms |")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
