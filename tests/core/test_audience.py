from __future__ import annotations

import dataclasses
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary, for_named_users_only, named_users
from notifyd.core.events import Rule, parse_rule

KEYS = ["1", "2", "3"]
PERMISSIONS = ["app.view_a", "app.view_b", "content_type.1"]

keys = st.frozensets(st.sampled_from(KEYS))
permissions = st.frozensets(st.sampled_from(PERMISSIONS))
users = st.none() | st.sampled_from(KEYS)


@st.composite
def rules(draw: st.DrawFn, depth: int = 3) -> Rule:
    """Draw a rule that nests at most ``depth`` deep, the empty one included."""
    parts = draw(st.lists(rules(depth - 1), max_size=3)) if depth > 1 else []
    return Rule(
        users=draw(keys),
        groups=draw(keys),
        permissions=draw(permissions),
        content_types=draw(keys),
        everyone=draw(st.booleans()),
        all=tuple(parts),
    )


@st.composite
def grants(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what Audience.build takes."""
    return {
        "permissions": draw(permissions),
        "content_types": draw(keys),
        "groups": draw(keys),
        "superuser": draw(st.booleans()),
    }


def model(grant: dict[str, Any], rule: Rule, user: str | None) -> bool:
    """Decide with plain sets what sees() decides with masks."""
    alternatives = [
        rule.everyone,
        user is not None and user in rule.users,
        bool(grant["groups"] & rule.groups),
        bool(grant["permissions"] & rule.permissions),
        bool(grant["content_types"] & rule.content_types),
        grant["superuser"] and bool(rule.permissions | rule.content_types),
        rule.all != () and all(model(grant, part, user) for part in rule.all),
    ]
    return any(alternatives)


def names(*words: str) -> frozenset[str]:
    """Spell a set of names briefly."""
    return frozenset(words)


@given(grants(), rules(), users)
def test_sees_agrees_with_sets(grant: dict[str, Any], rule: Rule, user: str | None) -> None:
    """An audience sees what plain sets of its grants would see."""
    assert Audience.build(Vocabulary(), **grant).sees(rule, user) is model(grant, rule, user)


@given(grants(), grants(), rules(), users)
def test_others_change_nothing(
    grant: dict[str, Any], other: dict[str, Any], rule: Rule, user: str | None
) -> None:
    """What an audience sees depends on no other audience, whichever was built first."""
    vocabulary = Vocabulary()
    first, _ = Audience.build(vocabulary, **grant), Audience.build(vocabulary, **other)
    last = Audience.build(vocabulary, **grant)
    assert first == last
    assert first.sees(rule, user) is last.sees(rule, user) is model(grant, rule, user)


@given(grants(), grants())
def test_equal_by_value(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Audiences are equal if they were granted the same, however a superuser came by it."""
    for grant in (one, two):
        if grant["superuser"]:
            grant["permissions"] = grant["content_types"] = frozenset()
    vocabulary = Vocabulary()
    first, second = Audience.build(vocabulary, **one), Audience.build(vocabulary, **two)
    assert (first == second) is (one == two)
    assert one != two or hash(first) == hash(second)


def test_several_keys_are_alternatives() -> None:
    """Whoever matches any of a rule's keys sees the event."""
    audience = Audience.build(Vocabulary(), groups=[5])
    assert audience.sees(Rule(users=names("9"), groups=names("5"), permissions=names("app.x")))
    assert not audience.sees(Rule(users=names("5"), groups=names("9"), permissions=names("app.x")))


def test_all_requires_each() -> None:
    """{"all": [...]} matches whoever matches each of its rules."""
    audience = Audience.build(Vocabulary(), permissions=["app.x"], groups=["5"])
    allowed, member, other = (
        Rule(permissions=names("app.x")),
        Rule(groups=names("5")),
        Rule(groups=names("6")),
    )
    assert audience.sees(Rule(all=(allowed, member)))
    assert not audience.sees(Rule(all=(allowed, other)))
    assert audience.sees(Rule(groups=names("5"), all=(allowed, other)))


def test_an_empty_rule_matches_nobody() -> None:
    """A rule without keys matches nobody, not even a superuser."""
    superuser = Audience.build(Vocabulary(), superuser=True)
    assert not superuser.sees(Rule(), "1")
    assert not superuser.sees(Rule(all=(Rule(),)), "1")


def test_users_are_not_part_of_the_audience() -> None:
    """A rule that names users matches only with the user asked about."""
    audience = Audience.build(Vocabulary())
    assert audience.sees(Rule(users=names("1")), "1")
    assert not audience.sees(Rule(users=names("1")), "2")
    assert not audience.sees(Rule(users=names("1", "None", "")))


def test_a_superuser_is_a_flag() -> None:
    """A superuser sees every content type and permission, but users and groups where named."""
    superuser = Audience.build(Vocabulary(), superuser=True, groups=[1])
    assert superuser.sees(Rule(permissions=names("app.created_later")))
    assert superuser.sees(Rule(content_types=names("999")))
    assert not superuser.sees(Rule(users=names("1"), groups=names("2")), "2")
    assert superuser.sees(Rule(all=(Rule(groups=names("1")), Rule(permissions=names("app.x")))))


def test_keys_are_compared_as_text() -> None:
    """Keys of the database are compared as text, wherever they come from."""
    vocabulary = Vocabulary()
    numbers = Audience.build(vocabulary, content_types=[12], groups=[3])
    assert numbers == Audience.build(vocabulary, content_types=["12"], groups=["3"])
    assert numbers.sees(Rule(content_types=names("12")))
    assert not numbers.sees(Rule(content_types=names("1", "2", "012")))


def test_a_permission_is_no_content_type() -> None:
    """A permission that is named like a content type grants that content type to nobody."""
    vocabulary = Vocabulary()
    Audience.build(vocabulary, content_types=[12])
    impostor = Audience.build(vocabulary, permissions=["content_type:12", "12"])
    assert not impostor.sees(Rule(content_types=names("12")))


def test_rules_add_no_words() -> None:
    """The vocabulary grows with what Django grants, never with what is published."""
    vocabulary = Vocabulary()
    audience = Audience.build(vocabulary, permissions=["app.x"], content_types=[1])
    audience.sees(Rule(permissions=names("app.y"), content_types=names("2")))
    assert len(vocabulary) == 2
    assert vocabulary.find(["app.y", "app.x"]) == vocabulary.intern(["app.x"])


def test_an_answer_never_changes() -> None:
    """A name that is granted later to others stays unseen by an audience without it."""
    vocabulary = Vocabulary()
    audience, rule = Audience.build(vocabulary), Rule(permissions=names("app.new"))
    assert not audience.sees(rule)
    assert Audience.build(vocabulary, permissions=["app.new"]).sees(rule)
    assert not audience.sees(rule)


@given(st.lists(st.text(max_size=2)), st.lists(st.text(max_size=2)))
def test_masks_are_sets(one: list[str], two: list[str]) -> None:
    """Masks have one bit per name, and common bits exactly for common names."""
    vocabulary = Vocabulary()
    first, second = vocabulary.intern(one), vocabulary.intern(two)
    assert first.bit_count() == len(set(one))
    assert (first & second).bit_count() == len(set(one) & set(two))
    assert vocabulary.find(two) == vocabulary.intern(two) == second


@given(st.lists(st.text(max_size=2)), st.lists(st.text(max_size=2)))
def test_words_of_a_mask(one: list[str], two: list[str]) -> None:
    """A mask has the words that it was made of, and no others that the table knows."""
    vocabulary = Vocabulary()
    first, second = vocabulary.intern(one), vocabulary.intern(two)
    assert vocabulary.words(first) == list(dict.fromkeys(one))
    assert set(vocabulary.words(second)) == set(two)
    assert vocabulary.words(0) == []


def test_a_mask_is_small() -> None:
    """Four hundred permissions take some fifty bytes."""
    mask = Vocabulary().intern(f"app.permission_{n}" for n in range(400))
    assert len(mask.to_bytes(50)) == 50


def test_threads_share_a_vocabulary() -> None:
    """Two names never get the same bit, even if threads add them at the same time."""
    vocabulary, start = Vocabulary(), threading.Barrier(8)
    words = [f"app.{n}" for n in range(2_000)]

    def intern(shift: int) -> None:
        start.wait()
        vocabulary.intern(words[shift:] + words[:shift])

    threads = [threading.Thread(target=intern, args=(n * 250,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vocabulary) == vocabulary.find(words).bit_count() == 2_000


def test_an_audience_is_frozen() -> None:
    """An audience is shared by its clients, so nobody can change it, and shows its grants only."""
    audience = Audience.build(Vocabulary(), groups=[1])
    assert not hasattr(audience, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        audience.superuser = True  # type: ignore[misc]
    assert "vocabulary" not in repr(audience)


def test_who_is_named() -> None:
    """A rule names the users who stand in it or in one of its parts, however deep."""
    one, two, three = (Rule(users=frozenset({key})) for key in "123")
    rule = Rule(
        users=frozenset({"0", "1"}), all=(one, Rule(groups=frozenset({"9"}), all=(two, three)))
    )
    assert named_users(rule) == frozenset("0123")
    assert named_users(one) == frozenset("1")
    assert named_users(Rule(groups=frozenset({"9"}), everyone=True)) == frozenset()
    assert named_users(Rule()) == frozenset()


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"users": ["1"]}, True),
        ({"users": ["1"], "groups": ["2"]}, False),
        ({"users": ["1"], "permissions": ["app.view"]}, False),
        ({"users": ["1"], "content_types": [3]}, False),
        ({"everyone": True}, False),
        ({"all": [{"users": ["1"]}, {"groups": ["2"]}]}, True),
        ({"all": [{"permissions": ["app.view"]}, {"groups": ["2"]}]}, False),
    ],
)
def test_for_named_users_only(rule: dict[str, Any], *, named: bool) -> None:
    """A rule that only users it names can meet is known as such."""
    assert for_named_users_only(parse_rule(json.dumps(rule).encode())) is named
