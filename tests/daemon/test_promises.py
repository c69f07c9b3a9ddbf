"""The two promises, over clients, bus, permissions and restarts in whatever order they happen.

Counted from the moment when Redis acknowledges an event: within the history a client that comes
back gets every event that it may see, once and in order, or is told to load its state anew; and
every event is delivered by an audience that was read no earlier than the last recheck before it.
"""

from __future__ import annotations

import functools
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from daemon.promises_pages import Page
from daemon.promises_site import GROUPS, USERS, Account
from daemon.promises_world import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without a rule of its own an event is for those who see its content type.
RULES: list[dict[str, Any] | None] = [
    {"everyone": True},
    None,
    {"groups": [1]},
    {"users": [1]},
    {"users": ["2", "3"], "groups": ["2"]},
    {"permissions": ["app.look"]},
    {"all": [{"groups": ["1"]}, {"permissions": ["app.look"]}]},
    {"all": [{"users": ["1", "2"]}, {"content_types": [7]}]},
]
BY_CONTENT_TYPE = {"content_types": [7]}
GRANTS = [frozenset[str](), frozenset({"7"}), frozenset({"7", "app.look"})]
ACCOUNTS = [
    Account(),
    Account(groups=frozenset({"1"})),
    Account(groups=frozenset({"2"}), grants=frozenset({"app.look"})),
    Account(groups=frozenset({"1", "2"}), superuser=True),
    Account(groups=frozenset({"1"}), active=False),
]
# What the site may do about what its users may see, and what it has to publish then.
DECISIONS: list[tuple[str, Any, dict[str, Any]]] = [
    *[
        ("change", (user, account), {"recheck": {"users": [user]}})
        for user in USERS
        for account in ACCOUNTS
    ],
    *[
        ("grant", (group, grants), {"recheck": {"groups": [int(group)]}})
        for group in GROUPS
        for grants in GRANTS
    ],
    *[("new_password", (user,), {"reauthenticate": {"users": [user]}}) for user in USERS],
    ("rest", (), {"recheck": {"all": True}}),
    ("rest", (), {"recheck": {"users": [1], "groups": [2]}}),
    ("rest", (), {"recheck": {"groups": [1]}}),
    ("rest", (), {"disconnect": {"users": [1]}}),
    ("rest", (), {"reauthenticate": {"users": ["2"]}}),
]
# Where a page goes: away, to be loaded anew, or to a daemon, with a token (None) or a ticket.
VISITS: list[tuple[int, int | None] | str] = [
    "leaves",
    "leaves",
    "is loaded",
    "is rendered",
    (0, None),
    (1, None),
    (0, 0),
    (0, 0),
    (1, 0),
    (1, 0),
    (0, 1),
    (1, 2),
]
TROUBLES: list[tuple[str, Any]] = [
    *[("trim", kept) for kept in (1, 3, 5, 8)],
    ("flush", True),
    ("flush", False),
    *[("restart", which) for which in (0, 1, 0, 1)],
    ("away", True),
    ("away", False),
    ("settle", None),
    ("settle", None),
]

pages = st.integers(0, 3)
events = st.lists(st.sampled_from(RULES), min_size=1, max_size=4)
rooms = st.sampled_from([0, 30, 250, None, None])
lags = st.sampled_from([0, 1, 2, 3])
answers = st.sampled_from(["as it was", "as it was", "as it was", "as it is", "fails"])
# Who hears at once of what is published: nobody, the first daemon, both, or both while the first
# stays in the middle of its fan-out, so many clients later.
hearing = st.sampled_from([None, "first", "both", "both", "both", 0, 1, 2])


def in_text(value: Any) -> Any:
    """Return a rule with its keys as text, as it is understood."""
    if isinstance(value, dict):
        return {key: in_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_text(each) for each in value]
    return value if isinstance(value, bool) else str(value)


class Promises(RuleBasedStateMachine):
    """What may happen. Every step ends when nothing moves any more, and finds no promise broken."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.unsent: list[dict[str, Any]] = []
        self.published = 0

    @initialize(lag=lags, archive_lag=lags, busy=st.booleans())
    def begin(self, lag: int, archive_lag: int, *, busy: bool) -> None:
        """Begin with everybody connected."""
        world = self.world
        for user in USERS:
            world.site.change(user, ACCOUNTS[1])
        world.site.grant("1", GRANTS[1])
        world.read(0, 1)
        world.read(1, 1)
        for user, bare in [("1", False), ("2", False), ("1", False), ("2", True)]:
            page = Page(world, user, bare=bare, rendered=False)
            world.pages.append(page)
            world.act(functools.partial(page.connect, 0, None))
        world.site.answers.become(lag, "as it was")
        world.redis.answers.become(archive_lag, "as it was")
        world.busy = busy

    @invariant()
    def step(self) -> None:
        """Let those outside answer what they were asked some steps ago."""
        if self.world.pages:
            self.world.step()

    def hear(self, hearing: str | int | None) -> None:
        """Let daemons read everything."""
        if hearing is not None:
            self.world.read(0, 100, None if isinstance(hearing, str) else hearing)
        if hearing not in {None, "first"}:
            self.world.read(1, 100)

    @rule(which=events, hearing=hearing)
    def publish(self, which: list[dict[str, Any] | None], hearing: str | int | None) -> None:
        """Publish some events."""
        if self.world.redis.away:
            return
        for each in which:
            self.published += 1
            event: dict[str, Any] = {"n": self.published, "text": "." * 90}
            if each is None:
                event["content_type_id"] = 7
            to = None if each is None else json.dumps(each).encode()
            data = json.dumps(event).encode()
            self.world.redis.publish(data, in_text(each or BY_CONTENT_TYPE), to)
        self.hear(hearing)

    @rule(decision=st.sampled_from(DECISIONS), now=st.booleans(), hearing=hearing)
    def decide(
        self,
        decision: tuple[str, Any, dict[str, Any]],
        hearing: str | int | None,
        now: bool,  # noqa: FBT001 - drawn like the others
    ) -> None:
        """Commit a change of the site's; what has to follow is published at once, or later."""
        what, arguments, order = decision
        if what != "rest":
            getattr(self.world.site, what)(*arguments)
        self.unsent.append(order)
        if now:
            self.tell(hearing)

    @rule(hearing=hearing)
    def tell(self, hearing: str | int | None) -> None:
        """Publish what has to follow the commits."""
        if not self.world.redis.away:
            for body in self.unsent:
                self.world.redis.command(json.dumps(body).encode(), body)
            self.unsent.clear()
            self.hear(hearing)

    @rule(which=pages, visit=st.sampled_from(VISITS))
    def visit(self, which: int, visit: tuple[int, int | None] | str) -> None:
        """Let a page leave, load it anew, or connect it, leaving what it was connected to."""
        page = self.world.pages[which]
        if not isinstance(visit, str):
            self.world.act(lambda: page.connect(*visit))
            return
        self.world.act(page.leave)
        if visit != "leaves":
            rendered = visit == "is rendered" and not page.bare
            page = Page(self.world, page.user, bare=page.bare, rendered=rendered)
            self.world.pages[which] = page

    @rule(which=pages, room=rooms)
    def squeeze(self, which: int, room: int | None) -> None:
        """Let but a few bytes more on their way to a page, or all that was held back."""
        link = self.world.pages[which].link
        if link is not None:
            self.world.act(lambda: link.widen() if room is None else link.narrow(room))

    @rule(
        which=st.integers(0, 1),
        most=st.sampled_from([1, 2, 100]),
        hold=st.sampled_from([None, None, 0, 1, 2]),
    )
    def read(self, which: int, most: int, hold: int | None) -> None:
        """Let a daemon read some entries, and perhaps stay in the middle of the fan-out."""
        self.world.read(which, most, hold)

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, 7.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass: pings, sweeps, and the ends of all patience."""
        self.world.pass_time(seconds, 1 if seconds < 1 else 4)

    @rule(database=st.booleans(), lag=lags, how=answers)
    def pace(self, lag: int, how: str, *, database: bool) -> None:
        """Let the database, or the archive, be slow, or fail, or neither."""
        world = self.world
        if database:
            world.act(lambda: world.site.answers.become(lag, how))
        else:
            world.trouble()
            world.act(lambda: world.redis.answers.become(lag, how))

    @rule(
        who=st.sampled_from(["database", "database", "archive", "daemon"]),
        how=st.sampled_from(["as it was", "as it was", "as it is"]),
        deeds=st.lists(
            st.one_of(
                st.tuples(st.just("visit"), pages, st.sampled_from(VISITS)),
                st.tuples(st.just("decide"), st.sampled_from(DECISIONS), hearing, st.just(True)),
                st.tuples(st.just("publish"), events, hearing),
                st.tuples(st.just("squeeze"), pages, rooms),
                st.tuples(st.just("pass_time"), st.just(0.1)),
            ),
            min_size=2,
            max_size=4,
        ),
    )
    def meanwhile(self, who: str, how: str, deeds: list[tuple[Any, ...]]) -> None:
        """Let some things happen while one of the others does nothing, or is in a fan-out."""
        world = self.world
        answers = world.redis.answers if who == "archive" else world.site.answers
        before = answers.lag, answers.how
        if who == "daemon":
            self.publish([RULES[0]], 0)
        else:
            answers.lag, answers.how = 1000, how
        for what, *arguments in deeds:
            getattr(self, what)(*arguments)
        if who == "archive":
            world.trouble()
        if who == "daemon":
            world.act(world.daemons[0].go_on)
        else:
            world.act(lambda: answers.become(0, how))
            answers.lag, answers.how = before

    @rule(trouble=st.sampled_from(TROUBLES), found=st.booleans())
    def trouble(self, trouble: tuple[str, Any], *, found: bool) -> None:
        """Lose entries, or the stream, or a daemon, or Redis for a time; or mend all."""
        match trouble:
            case "trim", kept:
                self.world.redis.trim(kept)
            case "flush", lower:
                self.world.redis.flush(lower=lower)
            case "restart", which:
                self.world.trouble()
                self.world.replace(which)
                if found:
                    self.world.read(which, 1)
            case "away", away:
                self.world.trouble()
                self.world.redis.away = away
            case _:
                self.settle()

    def settle(self) -> None:
        """Mend everything: all have what they were promised."""
        self.world.settle()
        self.publish([RULES[0]], "both")
        self.world.settle()

    def teardown(self) -> None:
        """Settle, unless something was wrong before."""
        try:
            if not self.world.broken:
                self.settle()
        finally:
            self.world.close()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Write no log: there would be a book of it."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def run(examples: int, steps: int) -> None:
    """Let so many things happen, one after the other, so many times."""
    run_state_machine_as_test(
        Promises,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_promises() -> None:
    """Whatever happens, both promises are kept."""
    run(60, 40)


@pytest.mark.long
def test_promises_at_length() -> None:
    """Whatever happens, both promises are kept, for many more things."""
    run(500, 50)
