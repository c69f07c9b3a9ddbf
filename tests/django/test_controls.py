from __future__ import annotations

import json
from typing import Any

import pytest

from notifyd.core.controls import Order, parse_order
from notifyd.django.controls import MOST, Controls

EVERYTHING: dict[str, Any] = {
    "users": {"10", "9"},
    "groups": {"2"},
    "disconnect": {"Ä-1"},
    "reauthenticate": {"1"},
}


def body(controls: Controls) -> dict[str, Any]:
    """Return what the entry says."""
    [(name, text)] = controls.encode().items()
    assert name == b"control"
    return dict(json.loads(text))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"users": {"10", "9"}}, {"recheck": {"users": ["10", "9"]}}),
        ({"groups": {"2"}}, {"recheck": {"groups": ["2"]}}),
        ({"everyone": True}, {"recheck": {"all": True}}),
        ({"everyone": True, "users": {"1"}, "groups": {"2"}}, {"recheck": {"all": True}}),
        ({"disconnect": {"1"}}, {"disconnect": {"users": ["1"]}}),
        ({"reauthenticate": {"1"}}, {"reauthenticate": {"users": ["1"]}}),
        (
            EVERYTHING,
            {
                "recheck": {"users": ["10", "9"], "groups": ["2"]},
                "disconnect": {"users": ["Ä-1"]},
                "reauthenticate": {"users": ["1"]},
            },
        ),
    ],
)
def test_form(given: dict[str, Any], shown: dict[str, Any]) -> None:
    """An entry has the keys that have something to say, and lists in order."""
    assert body(Controls(**given)) == shown


def test_understood() -> None:
    """The daemon reads in an entry what was meant."""
    assert parse_order(body(Controls(**EVERYTHING))) == Order(
        recheck_users=frozenset({"10", "9"}),
        recheck_groups=frozenset({"2"}),
        disconnect=frozenset({"Ä-1"}),
        reauthenticate=frozenset({"1"}),
    )
    assert parse_order(body(Controls(everyone=True))) == Order(recheck_all=True)


def test_many() -> None:
    """More than a thousand are everybody, where that is the safe reading, and only there."""
    users = set(map(str, range(MOST)))
    assert len(body(Controls(users=users))["recheck"]["users"]) == 1000
    assert body(Controls(users=users, groups={"1"})) == {"recheck": {"all": True}}
    assert len(body(Controls(disconnect=users | {"x"}))["disconnect"]["users"]) == 1001


def test_merge() -> None:
    """Two become one that asks for all that either does."""
    controls = Controls(users={"1"}, disconnect={"5"})
    controls.merge(Controls(users={"2"}, groups={"3"}, reauthenticate={"4"}))
    assert controls == Controls(
        users={"1", "2"}, groups={"3"}, disconnect={"5"}, reauthenticate={"4"}
    )
    controls.merge(Controls(everyone=True))
    assert controls.everyone


def test_nothing() -> None:
    """One that asks for nothing is false."""
    assert not Controls()
    assert Controls(everyone=True)
    assert all(Controls(**{name: keys}) for name, keys in EVERYTHING.items())
