from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.events import Rule
from notifyd.core.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEYS = ["1", "2", "3"]
PERMISSIONS = ["app.a", "app.b"]

# Rules as they are after the bound on remembered rules was reached, plus a few.
CROWD = [Rule(groups=frozenset({f"crowd {n}"})) for n in range(1_030)]


class Join(NamedTuple):
    """A member that joins, as a user with an audience."""

    member: str
    user: str
    audience: Audience


class Leave(NamedTuple):
    """A member that leaves."""

    member: str


class Suspend(NamedTuple):
    """A member, new or not, that gets nothing for now."""

    member: str
    user: str


class Events(NamedTuple):
    """A batch of events, by their rules."""

    rules: list[Rule]


Step = Join | Suspend | Leave | Events

vocabulary = Vocabulary()
keys = st.frozensets(st.sampled_from(KEYS), max_size=2)
permissions = st.frozensets(st.sampled_from(PERMISSIONS), max_size=2)
members = st.sampled_from("abcdef")
audiences = st.builds(
    Audience.build,
    st.just(vocabulary),
    permissions=permissions,
    content_types=keys,
    groups=keys,
    superuser=st.booleans(),
)


@st.composite
def rules(draw: st.DrawFn, depth: int = 3) -> Rule:
    """Draw a rule, often one for users only, that nests at most `depth` deep."""
    parts = draw(st.lists(rules(depth - 1), max_size=2)) if depth > 1 else []
    if draw(st.booleans()):
        return Rule(users=draw(keys), all=tuple(parts))
    everyone = draw(st.sampled_from([False, False, True]))
    return Rule(draw(keys), draw(keys), draw(permissions), draw(keys), everyone, tuple(parts))


events = st.builds(Events, st.lists(rules(), max_size=6))
users = st.sampled_from(KEYS)
steps = st.lists(
    st.builds(Join, members, users, audiences)
    | st.builds(Suspend, members, users)
    | st.builds(Leave, members)
    | events,
    max_size=40,
)


class Crowd:
    """The naive hub: a list of who is there, asked one by one. It checks the real one."""

    def __init__(self, hub: Hub[str]) -> None:
        self.hub = hub
        self.present: dict[str, Join | Suspend] = {}

    def take(self, step: Step) -> None:
        """Let both hubs go through a step."""
        if isinstance(step, Events):
            self.check(step.rules)
            return
        gone = self.present.pop(step.member, None)
        # Only a member that is suspended joins as it is, and any is suspended as it is.
        stays = (
            not isinstance(step, Leave)
            and (isinstance(gone, Suspend) or isinstance(step, Suspend))
            and gone is not None
            and gone.user == step.user
        )
        if gone and not stays:
            self.hub.leave(gone.member, gone.user)
        if isinstance(step, Join):
            self.hub.join(*step)
        elif isinstance(step, Suspend):
            self.hub.suspend(*step)
        if not isinstance(step, Leave):
            self.present[step.member] = step

    def check(self, rules: Sequence[Rule]) -> None:
        """Compare who gets what, and who is there."""
        batch = [(rule, f"<{n}>".encode()) for n, rule in enumerate(rules)]
        joins = [who for who in self.present.values() if isinstance(who, Join)]
        expected = {
            member: [frame for rule, frame in batch if audience.sees(rule, user)]
            for member, user, audience in joins
        }
        assert received(self.hub, batch) == {m: frames for m, frames in expected.items() if frames}
        assert self.hub.audiences == len({join.audience for join in joins})
        self.check_users()

    def check_users(self) -> None:
        """Compare the users, and the members of each."""
        hub, there = self.hub, self.present.values()
        counts = Counter(who.user for who in there)
        assert {user: hub.connections(user) for user in counts} == counts
        assert sorted(hub.all_users()) == sorted(counts)
        assert (len(hub), hub.users) == (len(there), len(counts))
        for user in KEYS:
            mine = [who for who in there if who.user == user]
            assert sorted(hub.members(user)) == sorted(who.member for who in mine)
            assert (user in hub) is bool(mine)
        for groups in ({"1"}, {"2", "3"}, {*KEYS}, set[str]()):
            concerned = {who.user for who in there if meets(who, groups)}
            assert sorted(hub.users_of(groups)) == sorted(concerned)


def meets(who: Join | Suspend, groups: set[str]) -> bool:
    """Tell whether somebody may be in one of the groups."""
    return isinstance(who, Suspend) or not who.audience.groups.isdisjoint(groups)


def received(hub: Hub[str], batch: Sequence[tuple[Rule, bytes]]) -> dict[str, list[bytes]]:
    """Return the frames that each member gets, in order; no member stands in two deliveries."""
    found: dict[str, list[bytes]] = {}
    for delivery in hub.deliveries(batch):
        assert delivery.members
        frames = [piece + b">" for piece in delivery.data.split(b">")[:-1]]
        assert len(frames) == delivery.events > 0
        for member in delivery.members:
            assert member not in found
            found[member] = frames
    return found


def group(*keys: str) -> Rule:
    """Make a rule for groups."""
    return Rule(groups=frozenset(keys))


def user(*keys: str) -> Rule:
    """Make a rule for users."""
    return Rule(users=frozenset(keys))


def audience(*groups: str) -> Audience:
    """Make the audience of somebody in these groups."""
    return Audience.build(vocabulary, groups=groups)


def hub_of(joins: Iterable[tuple[str, str, Audience]]) -> Hub[str]:
    """Make a hub with these members."""
    hub = Hub[str]()
    for join in joins:
        hub.join(*join)
    return hub


@settings(max_examples=150, deadline=None)
@given(steps)
def test_everyone_gets_what_the_user_may_see(steps: list[Step]) -> None:
    """Each member gets exactly the frames that its user may see, once and in stream order."""
    crowd = Crowd(Hub())
    for step in steps:
        crowd.take(step)


@settings(max_examples=50, deadline=None)
@given(st.integers(1_015, 1_030), steps)
def test_rules_beyond_those_remembered(remembered: int, steps: list[Step]) -> None:
    """When more rules come than are remembered, nothing is lost but time."""
    crowd = Crowd(Hub())
    for step in steps[:5]:
        crowd.take(step)
    crowd.hub.deliveries([(rule, b"") for rule in CROWD[:remembered]])
    for step in steps[5:]:
        crowd.take(step)


def test_the_memory_is_bounded() -> None:
    """However many rules are published, a bounded number is remembered."""
    hub = hub_of([("a", "1", audience("crowd 1029"))])
    for n, rule in enumerate(CROWD):
        assert bool(hub.deliveries([(rule, b"x")])) is (n == 1_029)
        assert len(hub._matches) <= 1_024


def test_many_rules_while_members_come_and_go() -> None:
    """What is remembered stays right as groups come and go, over more than a thousand rules."""
    dice, crowd = random.Random(1), Crowd(Hub())
    for n in range(1_300):
        name = f"crowd {dice.randrange(1_030)}"
        crowd.take(Join(f"m{n % 40}", str(n % 7), audience(name, f"crowd {n % 1_030}")))
        crowd.take(Leave(f"m{dice.randrange(40)}"))
        crowd.take(Events([dice.choice(CROWD), group(name), CROWD[n % 1_030]]))


def test_once_however_many_keys_match() -> None:
    """An event comes once however many of its keys match."""
    hub = hub_of([("a", "1", Audience.build(vocabulary, groups=["1"], permissions=["app.a"]))])
    rule = Rule(frozenset({"1"}), frozenset({"1"}), frozenset({"app.a"}), everyone=True)
    assert received(hub, [(rule, b"<x>")]) == {"a": [b"<x>"]}


def test_events_for_a_user_stand_in_order() -> None:
    """What is for the user stands among what is for the group, in stream order."""
    hub = hub_of([("a", "1", audience("1")), ("b", "2", audience("1"))])
    batch = [(group("1"), b"<0>"), (user("1"), b"<1>"), (group("1"), b"<2>"), (user("2"), b"<3>")]
    found = received(hub, batch)
    assert found == {"a": [b"<0>", b"<1>", b"<2>"], "b": [b"<0>", b"<2>", b"<3>"]}


def test_same_frames_same_bytes() -> None:
    """Members that get the same frames share one delivery, whatever their audiences are."""
    hub = hub_of([(f"m{n}", str(n), audience(str(n))) for n in range(50)])
    (delivery,) = hub.deliveries([(Rule(everyone=True), b"<0>"), (user(*map(str, range(50))), b"")])
    assert sorted(delivery.members) == sorted(f"m{n}" for n in range(50))
    assert (delivery.data, delivery.events) == (b"<0>", 2)


def test_nobody_gets_nothing() -> None:
    """There is no delivery for nobody, nor one without events."""
    hub = hub_of([("a", "1", audience("1"))])
    assert hub.deliveries([]) == []
    assert hub.deliveries([(group("2"), b"x"), (user("2"), b"x"), (Rule(), b"x")]) == []
    assert [delivery.members for delivery in hub.deliveries([(user("1"), b"x")])] == [["a"]]


def test_a_user_with_several_audiences() -> None:
    """Connections of one user get each what its own audience may see, while permissions change."""
    hub = hub_of([("old", "1", audience("1")), ("new", "1", audience("1", "2"))])
    needs_both = Rule(all=(user("1"), group("2")))
    batch = [(group("2"), b"<0>"), (needs_both, b"<1>"), (user("1"), b"<2>")]
    assert received(hub, batch) == {"old": [b"<2>"], "new": [b"<0>", b"<1>", b"<2>"]}
    assert (hub.users, hub.audiences, hub.connections("1")) == (1, 2, 2)


@pytest.mark.parametrize("group_rule", [group("1"), Rule(everyone=True)])
def test_all_with_users(group_rule: Rule) -> None:
    """A rule that requires a user and more is for that user alone, and only with the rest."""
    hub = hub_of([("a", "1", audience("1")), ("b", "2", audience("1")), ("c", "1", audience())])
    found = received(hub, [(Rule(all=(group_rule, user("1"))), b"<x>")])
    assert set(found) == ({"a", "c"} if group_rule.everyone else {"a"})


def test_rules_for_users_ask_no_group() -> None:
    """The cost of an event for a user does not grow with the audiences of the others."""
    hub = hub_of([(f"m{n}", str(n), audience(str(n))) for n in range(100)])
    hub.deliveries([(group("1"), b"")])
    for rule in (
        user("5"),
        Rule(all=(user("5"), user("5", "6"))),
        Rule(all=(user("5"), group("5"))),
    ):
        assert set(received(hub, [(rule, b"<x>")])) <= {"m5"}
    assert [*hub._matches] == [group("1")]


def test_deliveries_are_a_snapshot() -> None:
    """Joins and departures during a fan-out don't change what is being written."""
    hub = hub_of([("a", "1", audience("1")), ("b", "2", audience("1"))])
    deliveries = hub.deliveries([(group("1"), b"<0>"), (user("1"), b"<1>")])
    written = set()
    for delivery in deliveries:
        for member in delivery.members:
            written.add((member, delivery.data))
            hub.leave("a", "1")
            hub.leave("b", "2")
            hub.join(f"new {member}", "1", audience("1"))
    assert written == {("a", b"<0><1>"), ("b", b"<0>")}


def test_who_comes_gets_what_comes() -> None:
    """A rule that was decided before counts for an audience that comes later, too."""
    hub = Hub[str]()
    assert hub.deliveries([(group("1"), b"")]) == []
    hub.join("a", "1", audience("1"))
    assert set(received(hub, [(group("1"), b"<x>")])) == {"a"}
    hub.leave("a", "1")
    assert hub.deliveries([(group("1"), b"")]) == []


def test_leaving_is_harmless() -> None:
    """Who is not in, or not as that user, leaves without a trace."""
    hub = hub_of([("a", "1", audience("1"))])
    for member, of in (("b", "1"), ("a", "2"), ("b", "2")):
        hub.leave(member, of)
    assert (len(hub), hub.users, hub.connections("1")) == (1, 1, 1)


def test_nothing_stays_behind() -> None:
    """When the last member has left, the hub remembers neither users nor audiences."""
    hub = hub_of([("a", "1", audience("1")), ("b", "1", audience("2"))])
    hub.deliveries([(group("1", "2"), b"")])
    hub.leave("a", "1")
    hub.leave("b", "1")
    assert (len(hub), hub.users, hub.audiences, hub.connections("1")) == (0, 0, 0, 0)
    assert not any(hub._matches.values())


def test_who_is_suspended_gets_nothing() -> None:
    """A suspended member gets no event, not even one that names its user or is for everyone."""
    hub = hub_of([("a", "1", audience("1")), ("b", "1", audience("1"))])
    hub.suspend("a", "1")
    batch = [(Rule(everyone=True), b"<0>"), (user("1"), b"<1>"), (group("1"), b"<2>")]
    assert received(hub, batch) == {"b": [b"<0>", b"<1>", b"<2>"]}


def test_who_is_suspended_is_connected() -> None:
    """A suspended member counts and is found as its user's, but has no audience."""
    hub = hub_of([("a", "1", audience("1"))])
    hub.suspend("a", "1")
    hub.suspend("b", "2")
    assert (len(hub), hub.users, hub.audiences, hub.connections("1")) == (2, 2, 0, 1)
    assert (hub.members("1"), hub.members("2"), hub.members("3")) == (["a"], ["b"], [])
    assert ("1" in hub, "2" in hub, "3" in hub) == (True, True, False)


def test_audiences_of_a_user() -> None:
    """Of each member of a user it is known what it may see, unless it is suspended."""
    hub = hub_of([("a", "1", audience("1")), ("b", "1", audience("2"))])
    hub.suspend("b", "1")
    assert hub.audiences_of("1") == [("a", audience("1")), ("b", None)]
    assert hub.audiences_of("2") == []


def test_suspending_twice() -> None:
    """A member that is suspended already stays so, and still stands for its user once."""
    hub = Hub[str]()
    hub.suspend("a", "1")
    hub.suspend("a", "1")
    assert (len(hub), hub.connections("1")) == (1, 1)


def test_back_from_suspension() -> None:
    """A suspended member joins with what its user may see by then, and with nothing older."""
    hub = hub_of([("a", "1", audience("1"))])
    hub.deliveries([(group("1"), b""), (group("2"), b"")])
    hub.suspend("a", "1")
    hub.join("a", "1", audience("2"))
    assert received(hub, [(group("1"), b"<0>"), (group("2"), b"<1>")]) == {"a": [b"<1>"]}
    assert (len(hub), hub.audiences) == (1, 1)


def test_leaving_while_suspended() -> None:
    """A suspended member that leaves is gone, and so is its user if it was the last one."""
    hub = hub_of([("a", "1", audience("1"))])
    for member in "bc":
        hub.suspend(member, "2")
    hub.leave("b", "2")
    assert hub.members("2") == ["c"]
    hub.leave("c", "2")
    assert (hub.all_users(), len(hub), "2" in hub) == (["1"], 1, False)


def test_suspending_during_a_fan_out() -> None:
    """Who is suspended while deliveries are written still stands in them, and in no later one."""
    hub = hub_of([("a", "1", audience("1")), ("b", "2", audience("1"))])
    (delivery,) = hub.deliveries([(group("1"), b"<0>")])
    hub.suspend("b", "2")
    assert sorted(delivery.members) == ["a", "b"]
    assert set(received(hub, [(group("1"), b"<0>")])) == {"a"}


def test_users_of_groups() -> None:
    """Users are found by any of the groups in any audience of theirs, each once."""
    hub = hub_of(
        [
            *[("a", "1", audience("5")), ("b", "1", audience("5", "6")), ("c", "2", audience("6"))],
            *[("d", "3", audience()), ("e", "4", Audience.build(vocabulary, superuser=True))],
        ]
    )
    assert [sorted(hub.users_of(groups)) for groups in ({"5"}, {"6"}, {"5", "6"}, {"7"})] == [
        *(["1"], ["1", "2"], ["1", "2"], []),
    ]


def test_nobody_knows_whose_groups_changed() -> None:
    """A user with a suspended member may be in any group, beside what other members of it tell."""
    hub = hub_of([("a", "1", audience("5")), ("b", "2", audience("5"))])
    hub.suspend("c", "1")
    assert hub.users_of({"6"}) == ["1"]


def test_lists_are_snapshots() -> None:
    """Members may leave while they, their users, or those of a group are gone through."""
    hub = hub_of([(f"m{n}", "1", audience("5")) for n in range(3)])
    for _ in zip(hub.all_users(), hub.users_of({"5"}), strict=True):
        for member in hub.members("1"):
            hub.leave(member, "1")
    assert (hub.all_users(), hub.members("1")) == ([], [])
