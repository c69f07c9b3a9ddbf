"""What observing costs: instructions of the fan-out, and those of them that only observe.

The daemon's own parts relay events to real sockets under valgrind: as they are; without each
client's own count of its events, which is for the log; and without any statement that counts,
measures or observes (overhead_without.py). Each experiment is done with some batches and with twice
as many: the difference is what the second half took, without start and end. valgrind counts the
process' own instructions and none of the kernel's, which has most of the work: of all the work, the
shares are smaller.

Fails where observing, that is metrics, latencies and status, has more than the bound of a fan-out
to a thousand clients. What the client's own count has is shown beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compare import HERE, machine

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUND = 0.03
MANY = 1000
"""Recipients from which on the bound holds."""


@dataclass(frozen=True)
class Shape:
    """A fan-out: batches of so many events for so many clients."""

    clients: int
    batch: int
    count: int

    @property
    def name(self) -> str:
        """What overhead_fanout.py calls it."""
        return f"{self.clients}x{self.batch}"


SHAPES = (
    Shape(clients=1000, batch=1, count=6),
    Shape(clients=1000, batch=10, count=4),
    Shape(clients=200, batch=1, count=10),
    Shape(clients=10, batch=1, count=20),
    Shape(clients=1, batch=1, count=20),
)
TIMED = {"timer": 40, "scrape": 2, "openmetrics": 2}
"""What is done by the clock and not for each event, and how often it is done here."""

Counts = dict[str, float]
"""Instructions for each batch, turn or scrape."""


def main() -> int:
    """Count, print the table, and return 1 where the bound is exceeded."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    shapes = {shape.name: shape.count for shape in SHAPES}
    with tempfile.TemporaryDirectory(prefix="overhead") as folder, contextlib.ExitStack() as stack:
        running = {
            kind: stack.enter_context(start(kind, Path(folder), experiments))
            for kind, experiments in (
                ("whole", shapes | TIMED),
                ("uncounted", shapes),
                ("without", shapes),
            )
        }
        counted = {kind: collect(kind, Path(folder), each) for kind, each in running.items()}
    print_table(counted)
    exceeded = [
        shape.name
        for shape in SHAPES
        if shape.clients >= MANY and shares(counted, shape.name)[0] > BOUND
    ]
    for name in exceeded:
        print(f"above {BOUND:.0%}: {name}")
    return 1 if exceeded else 0


def start(kind: str, folder: Path, experiments: Mapping[str, int]) -> subprocess.Popen[str]:
    """Begin to count, each experiment once and once twice as long."""
    words = [
        str(word) for name, count in experiments.items() for word in (name, count, name, 2 * count)
    ]
    return subprocess.Popen(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/{kind}.%p",
            f"--log-file={folder}/{kind}.log",
            sys.executable,
            HERE / "overhead_fanout.py",
            kind,
            *words,
        ],
        # With one hash seed, dicts and sets are the same each time, and so are the counts.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )


def collect(kind: str, folder: Path, running: subprocess.Popen[str]) -> Counts:
    """Wait for the end, and return what was counted."""
    output, _ = running.communicate()
    if running.returncode:
        sys.exit(f"the fan-out {kind} has failed")
    counts: Counts = {}
    halves: dict[str, int] = {}
    for line in output.splitlines():
        if line.startswith("taken "):
            if kind == "without":
                print(line)
            continue
        if not line.startswith("done "):
            continue
        _, name, count, pid = line.split()
        instructions = total(folder / f"{kind}.{pid}")
        if name in halves:
            counts[name] = (instructions - halves[name]) / (int(count) / 2)
        halves[name] = instructions
    return counts


def total(file: Path) -> int:
    """Return the instructions that a file of callgrind's adds up to."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("summary:"):
            return int(line.split()[1])
    sys.exit(f"no summary in {file}")


def shares(counted: Mapping[str, Counts], shape: str) -> tuple[float, float]:
    """Return the parts of a fan-out that observing has, and the clients' own counts."""
    whole, uncounted, without = (counted[kind][shape] for kind in ("whole", "uncounted", "without"))
    return (uncounted - without) / whole, (whole - uncounted) / whole


def print_table(counted: Mapping[str, Counts]) -> None:
    """Print what each shape takes, and how much what is done by the clock is beside it."""
    whole = counted["whole"]
    print(f"\n{machine()}\n")
    print("| clients | events in a batch | instructions | observing | clients' own counts |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        observing, counting = shares(counted, shape.name)
        print(
            f"| {shape.clients:,} | {shape.batch} | {whole[shape.name]:,.0f}"
            f" | {observing:.1%} | {counting:.1%} |"
        )
    event = whole[SHAPES[0].name]
    print(f"\nBy the clock, in events to {SHAPES[0].clients:,} clients:")
    for name in TIMED:
        print(f"  {name}: {whole[name]:,.0f} instructions, {whole[name] / event:.2f} events")


if __name__ == "__main__":
    sys.exit(main())
