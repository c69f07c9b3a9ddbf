"""Ten thousand clients of a thousand users return at once: their server was killed.

Two servers side by side, the crowds alike, in turn: the guide's; notifyd with tokens; notifyd with
tickets, and without a database. What is measured is the time from the first connection until all
clients are authenticated and have the events that they missed, each exactly once and in order. The
guide's clients have lost theirs, and wait for one new event only. Machines are shared and noisy:
only ratios taken in one run mean anything.

With --guard it is a small storm, which fails unless notifyd is as many times faster as promised.
The PostgreSQL is that of the tests: `make storm` has them on Python's path.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compare import HERE, machine, progress
from postgres import PostgresServer
from storm_sides import Guide, Notifyd, Site, Storm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROMISED = {"token": 3.0, "ticket": 8.0}
"""How many times faster than the guide's server notifyd is at least, by what its clients show."""

TRIES = 3
WORDS = {"guide": "guide", "token": "notifyd, tokens", "ticket": "notifyd, tickets, no database"}


@dataclass(frozen=True)
class Plan:
    """How large an experiment is. `missed` counts the events.

    `database` is the URL of an empty PostgreSQL, "sqlite", or empty: a PostgreSQL of its own.
    """

    clients: int
    users: int
    rounds: int
    missed: int
    database: str


SMALL = Plan(clients=1000, users=100, rounds=3, missed=20, database="")


def main() -> int:
    """Run the experiment and print its table; with --guard, return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guard", action="store_true", help="try a small storm against the limits")
    parser.add_argument("--clients", type=int, default=10_000, help="all together")
    parser.add_argument("--users", type=int, default=1_000, help="whose clients they are")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, the servers in turn")
    parser.add_argument("--missed", type=int, default=20, help="events published meanwhile")
    parser.add_argument("--database", default="", help='"sqlite", or the URL of an empty database')
    options = vars(parser.parse_args())
    if options.pop("guard"):
        return guard()
    plan = Plan(**options)
    print(f"{machine()}; {plan.clients} clients of {plan.users} users", flush=True)
    print_table(run(plan))
    return 0


def guard() -> int:
    """Return 0 if a small storm keeps the promises, at one of a few tries."""
    # A neighbour on a shared machine can spoil a run; what became slower is so every time.
    for attempt in range(1, TRIES + 1):
        storms = run(SMALL)
        factors = {kind: factor(storms, kind) for kind in PROMISED}
        words = (f"{WORDS[kind]}: {each:.1f} times faster" for kind, each in factors.items())
        print(f"try {attempt}: {'; '.join(words)}", flush=True)
        broken = [kind for kind, least in PROMISED.items() if factors[kind] < least]
        if not broken:
            return 0
    for kind in broken:
        print(f"too slow: {WORDS[kind]}: promised are {PROMISED[kind]:g} times the guide's speed")
    return 1


def run(plan: Plan) -> dict[str, list[Storm]]:
    """Run the experiment, and return every storm by its kind."""
    storms: dict[str, list[Storm]] = {kind: [] for kind in WORDS}
    with tempfile.TemporaryDirectory(prefix="storm") as folder, contextlib.ExitStack() as stack:
        address = plan.database or stack.enter_context(own_database())
        site = prepare(Path(folder), plan.users, address)
        guide, notifyd = Guide(site, plan.clients), Notifyd(site, plan.clients)
        for side, kind in ((guide, "bare"), (notifyd, "token")):
            progress(f"{kind}: warming up with {plan.clients} clients")
            stack.enter_context(side.prepared())
            with side.serving():
                side.storm(kind, [])
        for number in range(1, plan.rounds + 1):
            progress(f"round {number} of {plan.rounds}")
            with guide.serving():
                storms["guide"].append(guide.storm("bare", []))
            for kind, database in (("token", None), ("ticket", site.gone)):
                missed = [notifyd.publish() for _ in range(plan.missed)]
                with notifyd.serving(database):
                    storms[kind].append(notifyd.storm(kind, missed))
        # SQLite would have made it at the first query.
        assert not Path(site.gone).exists(), "tickets were looked at with a database"
    return storms


@contextlib.contextmanager
def own_database() -> Iterator[str]:
    """Start a PostgreSQL, as sites have it, and give the URL of an empty database."""
    with (
        tempfile.TemporaryDirectory(prefix="storm") as folder,
        PostgresServer(Path(folder)) as server,
    ):
        server.create("newsroom")
        yield f"postgresql://{server.user}@{server.host}:{server.port}/newsroom"


def prepare(folder: Path, users: int, database: str) -> Site:
    """Make the site's database and its people, and the tokens of these."""
    # For this process and those that it starts.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "bench_settings",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "site")]),
        "NEWSROOM_DATABASE": str(folder / "db.sqlite3") if database == "sqlite" else database,
    }
    made = subprocess.run(
        [sys.executable, HERE / "storm_people.py", str(users)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    content_type, *lines = made.stdout.splitlines()
    for position, name in enumerate((Guide.tokens, Notifyd.tokens)):
        tokens = [line.split()[position] for line in lines]
        (folder / name).write_text("\n".join(tokens), encoding="ascii")
    return Site(folder, environment, str(folder / "gone.sqlite3"), int(content_type))


def factor(storms: Mapping[str, list[Storm]], kind: str) -> float:
    """Return how many times faster than the guide's server this was, by the medians."""
    return median(storms["guide"]) / median(storms[kind])


def median(storms: list[Storm]) -> float:
    """Return the median of the seconds."""
    return statistics.median(each.seconds for each in storms)


def print_table(storms: Mapping[str, list[Storm]]) -> None:
    """Print the medians, the spread, and how many times faster that was than the guide's."""
    print("\n| server | seconds (least to most) | its processor | the crowd's | lost | faster |")
    print("|---|---|---|---|---|---|")
    for kind, words in WORDS.items():
        each = storms[kind]
        seconds = sorted(storm.seconds for storm in each)
        server = statistics.median(storm.server for storm in each)
        crowd = statistics.median(storm.crowd for storm in each)
        print(
            f"| {words} | {median(each):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
            f" | {server:.2f} s | {crowd:.2f} s | {sum(storm.lost for storm in each)}"
            f" | {factor(storms, kind):.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
