from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.block import Block, Record, weight
from notifyd.core.events import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.positions import Position

KEYS = ["1", "2", "3"]
EVERYONE = Rule(everyone=True)

vocabulary = Vocabulary()
keys = st.frozensets(st.sampled_from(KEYS), max_size=2)
permissions = st.frozensets(st.sampled_from(["app.a", "app.b"]), max_size=1)
audiences = st.builds(
    Audience.build,
    st.just(vocabulary),
    permissions=permissions,
    content_types=keys,
    groups=keys,
    superuser=st.booleans(),
)
users = st.sampled_from(KEYS)


@st.composite
def rules(draw: st.DrawFn, depth: int = 3) -> Rule:
    """Draw a rule, often one for users only, that nests at most `depth` deep."""
    parts = draw(st.lists(rules(depth - 1), max_size=2)) if depth > 1 else []
    if draw(st.booleans()):
        return Rule(users=draw(keys), all=tuple(parts))
    everyone = draw(st.sampled_from([False, False, True]))
    return Rule(draw(keys), draw(keys), draw(permissions), draw(keys), everyone, tuple(parts))


def record(position: Position, rule: Rule | None = EVERYONE, extra: int = 0) -> Record:
    """Make a record whose frame tells its position, one that nobody gets if it has no rule."""
    return Record(position, b"<%d-%d>" % position if rule else b"", rule, extra)


def run(*numbers: int, extra: int = 0) -> list[Record]:
    """Make records for everyone at these positions."""
    return [record((number, 0), extra=extra) for number in numbers]


def frames(records: Sequence[Record], audience: Audience, user: str) -> list[bytes]:
    """Return the frames that a user may see, asked for one by one."""
    return [each.frame for each in records if each.rule and audience.sees(each.rule, user)]


def group(*names: str) -> Rule:
    """Make a rule for groups."""
    return Rule(groups=frozenset(names))


def user(*names: str) -> Rule:
    """Make a rule for users."""
    return Rule(users=frozenset(names))


def audience(*groups: str, superuser: bool = False) -> Audience:
    """Make the audience of somebody in these groups."""
    return Audience.build(vocabulary, groups=groups, superuser=superuser)


def seen(rule: Rule | None, audience: Audience, user: str) -> bool:
    """Tell whether a user sees the one record of a block."""
    data, events = Block([record((1, 0), rule)]).visible(0, audience, user)
    assert (data, events) in {(b"<1-0>", 1), (b"", 0)}
    return bool(events)


@given(
    st.lists(st.none() | rules(), max_size=8),
    st.lists(st.tuples(audiences, users, st.integers(0, 9), st.integers(0, 3)), min_size=1),
)
def test_a_block_shows_what_the_user_may_see(
    rules: list[Rule | None], askers: list[tuple[Audience, str, int, int]]
) -> None:
    """Whoever asks, when and from where, gets the frames that the user may see, in order."""
    records = [record((n, 0), rule) for n, rule in enumerate(rules)]
    block = Block()
    for audience, user, start, more in askers:
        for each in records[len(block.records) :][:more]:
            block.add(each)
        expected = frames(block.records[start:], audience, user)
        assert block.visible(start, audience, user) == (b"".join(expected), len(expected))
    assert block.weight == sum(map(weight, block.records))


def test_who_is_named_sees_more() -> None:
    """A rule that names users counts for them alone, whoever shares their audience asks first."""
    block = Block([record((1, 0), user("1")), record((2, 0), group("5"))])
    assert block.visible(0, audience("5"), "2") == (b"<2-0>", 1)
    assert block.visible(0, audience("5"), "1") == (b"<1-0><2-0>", 2)
    assert block.visible(0, audience("5"), "2") == (b"<2-0>", 1)


def test_named_and_in_the_audience() -> None:
    """Who is named by a rule that the audience meets anyway gets the event once."""
    block = Block([record((1, 0), Rule(users=frozenset("1"), groups=frozenset("5")))])
    assert block.visible(0, audience("5"), "1") == (b"<1-0>", 1)


def test_who_is_named_deep_in_a_rule() -> None:
    """A user whom a nested rule names sees its event, if the rest of the rule admits the user."""
    rule = Rule(all=(group("5"), Rule(all=(Rule(all=(user("1"),)),))))
    assert seen(rule, audience("5"), "1")
    assert not seen(rule, audience("6"), "1")
    assert not seen(rule, audience("5"), "2")


def test_a_superuser_sees_what_is_not_for_others_by_name() -> None:
    """A superuser sees all permissions and content types, but users and groups where named."""
    superuser = audience("5", superuser=True)
    for rule in (Rule(permissions=frozenset({"app.new"})), Rule(content_types=frozenset({"99"}))):
        assert seen(rule, superuser, "1")
        assert not seen(rule, audience("5"), "1")
    assert [seen(group(name), superuser, "1") for name in "56"] == [True, False]
    assert [seen(user(name), superuser, "1") for name in "12"] == [True, False]


def test_a_record_without_a_rule_is_for_nobody() -> None:
    """A control entry, or a bad one, has its place in the history, and no client gets it."""
    assert not seen(None, audience(superuser=True), "1")
    assert not seen(Rule(), audience(superuser=True), "1")
    assert Block().visible(0, audience(), "1") == (b"", 0)


def test_the_same_is_joined_once() -> None:
    """Those of one audience who ask one after another share the answer, unless a rule names one."""
    block = Block([*run(1, 2, 3), record((4, 0), user("7"))])
    first, _ = block.visible(0, audience("5"), "1")
    assert block.visible(0, audience("5"), "2")[0] is first
    assert block.visible(0, audience("5"), "7") == (first + b"<4-0>", 4)
    assert block.visible(0, audience("5"), "3")[0] is first
    block.add(record((5, 0)))
    assert block.visible(0, audience("5"), "3") == (first + b"<5-0>", 4)


def test_many_audiences() -> None:
    """A block remembers what some audiences see, and answers any number of them."""
    block = Block([record((n, 0), group(str(n))) for n in range(10)])
    for n in (*range(10), *range(10)):
        assert block.visible(0, audience(str(n)), "1") == (b"<%d-0>" % n, 1)


def test_where_a_position_is() -> None:
    """What follows a position begins with the first record behind it."""
    block = Block(run(1, 3, 5))
    positions: list[Position] = [(0, 0), (1, 0), (2, 7), (3, 0), (4, 0), (5, 0), (9, 0)]
    assert [block.after(each) for each in positions] == [0, 1, 1, 2, 2, 3, 3]
    assert block.last == (5, 0)


def test_a_rule_weighs() -> None:
    """What a long rule takes in memory counts, beside the frame and the record itself."""
    light, heavy = Record((1, 0)), Record((1, 0), b"x" * 100, EVERYONE, 1_000)
    assert weight(heavy) - weight(light) == 1_100
    assert weight(light) > 100
