from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.controls import EVERYBODY, Order, parse_order

SECRET = "qzQZxjXJ"

keys = st.integers(0, 3) | st.sampled_from(["1", "a", "é"])
lists = st.lists(keys, max_size=3)
# Nearly what a list of keys or an object should be.
odd = (
    st.none()
    | st.booleans()
    | st.just(1.0)
    | st.lists(st.none() | st.booleans() | st.floats() | st.lists(keys, max_size=1) | keys)
    | st.dictionaries(keys.map(str), keys, max_size=2)
)
parts = st.fixed_dictionaries(
    {}, optional={"users": lists | odd, "groups": lists | odd, "all": st.booleans() | odd, "x": odd}
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "recheck": parts | odd,
        "disconnect": parts | odd,
        "reauthenticate": parts | odd,
        "start": odd,
    },
)


def valid(body: dict[str, Any]) -> bool:
    """Tell whether all that the daemon knows is formed as the contract says."""
    known = [(body[key], key) for key in ("recheck", "disconnect", "reauthenticate") if key in body]
    for part, key in known:
        if type(part) is not dict:
            return False
        names = ["users", "groups"] if key == "recheck" else ["users"]
        items = [part[name] for name in names if name in part]
        if not all(type(some) is list and {*map(type, some)} <= {int, str} for some in items):
            return False
        if key == "recheck" and type(part.get("all", True)) is not bool:
            return False
    return True


def named(body: dict[str, Any], key: str, name: str = "users") -> set[str]:
    """Return the keys that an order of this form names, as text."""
    return {str(item) for item in body.get(key, {}).get(name, ())}


@given(bodies)
def test_an_order_is_what_was_written(body: dict[str, Any]) -> None:
    """Either an order is refused, or it asks for exactly what it names: neither more nor less."""
    if not valid(body):
        with pytest.raises(ValueError, match="must be"):
            parse_order(body)
        return
    order = parse_order(body)
    assert order.recheck_users == named(body, "recheck")
    assert order.recheck_groups == named(body, "recheck", "groups")
    assert order.recheck_all is (body.get("recheck", {}).get("all") is True)
    assert order.disconnect == named(body, "disconnect")
    assert order.reauthenticate == named(body, "reauthenticate")


def test_the_orders_of_one_transaction() -> None:
    """What one transaction orders is one entry, with all kinds of orders in it."""
    body = {
        "recheck": {"users": [1, "2"], "groups": [3], "all": True},
        "disconnect": {"users": ["a b"]},
        "reauthenticate": {"users": [-5, 5]},
    }
    two, three, gone, back = map(frozenset, (["1", "2"], ["3"], ["a b"], ["-5", "5"]))
    assert parse_order(body) == Order(
        two, three, recheck_all=True, disconnect=gone, reauthenticate=back
    )


def test_keys_are_compared_as_text() -> None:
    """A primary key is the same whether it comes as a number or as a text."""
    number, text = ({"disconnect": {"users": [key]}} for key in (12, "12"))
    assert parse_order(number) == parse_order(text) == Order(disconnect=frozenset({"12"}))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"start": True},
        {"recheck": {}},
        {"recheck": {"all": False, "users": [], "groups": []}},
        {"disconnect": {}, "reauthenticate": {"users": []}},
    ],
)
def test_nothing_is_ordered(body: dict[str, Any]) -> None:
    """An entry that names nobody, such as the stream's first, asks for nothing."""
    assert parse_order(body) == Order()


@pytest.mark.parametrize(
    "unknown",
    [
        {"promote": {"users": ["1"]}},
        {"recheck": {"users": ["1"], "permissions": 5}},
        {"disconnect": {"users": ["2"], "groups": {}, "all": "yes"}},
    ],
)
def test_unknown_keys_are_ignored(unknown: dict[str, Any]) -> None:
    """Keys that a newer site adds change nothing in what this daemon understands."""
    body = {"recheck": {"users": ["1"]}, "disconnect": {"users": ["2"]}}
    assert parse_order({**body, **unknown}) == parse_order(body)


@pytest.mark.parametrize(
    "keys",
    [
        *(None, True, 5, "12", {"12": 12}, 1.5),
        *([None], [True], [1.0], [["1"]], [{"1": 1}], ["1", False]),
    ],
)
@pytest.mark.parametrize("name", ["recheck", "disconnect", "reauthenticate"])
def test_keys_are_a_list_of_keys(name: str, keys: object) -> None:
    """Where primary keys are due, nothing but a list of integers and texts will do."""
    with pytest.raises(ValueError, match=r"^users must be a list of primary keys$"):
        parse_order({name: {"users": keys}})


@pytest.mark.parametrize("part", [None, True, 1, "all", ["1"], []])
@pytest.mark.parametrize("name", ["recheck", "disconnect", "reauthenticate"])
def test_an_order_is_an_object(name: str, part: object) -> None:
    """Each order is an object: a bare list of users is refused and not guessed at."""
    with pytest.raises(ValueError, match=f"^{name} must be an object$"):
        parse_order({name: part})


@pytest.mark.parametrize("everybody", [None, 1, 0, "true", [], ["1"], {}])
def test_all_is_a_boolean(everybody: object) -> None:
    """To recheck all takes `true`, and nothing that merely counts as true."""
    with pytest.raises(ValueError, match=r"^recheck's all must be true$"):
        parse_order({"recheck": {"all": everybody}})


@pytest.mark.parametrize(
    "body",
    [
        {"recheck": SECRET},
        {"recheck": {"all": SECRET}},
        {"recheck": {"groups": SECRET}},
        {"disconnect": {"users": [SECRET, None]}},
        {"reauthenticate": [SECRET]},
    ],
)
def test_a_refusal_quotes_nothing(body: dict[str, Any]) -> None:
    """What is said of a bad order ends in logs, and shows nothing of it."""
    with pytest.raises(ValueError, match="must be") as caught:
        parse_order(body)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_too_long_for_a_number_is_refused() -> None:
    """A number of thousands of digits is refused as everything that is no key."""
    with pytest.raises(ValueError, match="digits"):
        parse_order({"disconnect": {"users": [10**5_000]}})


def test_the_strictest_reading() -> None:
    """An order that can't be read counts as one to read all anew, and closes nobody."""
    assert parse_order({"recheck": {"all": True}}) == EVERYBODY
    assert not EVERYBODY.disconnect | EVERYBODY.reauthenticate


def test_an_order_stays() -> None:
    """An order is a value that nobody can change."""
    for field in dataclasses.fields(EVERYBODY):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(EVERYBODY, field.name, None)
