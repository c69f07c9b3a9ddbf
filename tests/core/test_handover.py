from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.handover import (
    RESULTS,
    VERSION,
    Admitted,
    ClientState,
    Kind,
    State,
    Unreadable,
    decode,
    encode,
)
from notifyd.core.login import Login

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = f"notifyd handover {VERSION}\n".encode()

words = st.sets(st.sampled_from(["app.view_article", "app.change_article", "app.look", "x.y"]))
numbers = st.integers(0, (1 << 64) - 1)
positions = st.none() | st.tuples(numbers, numbers)


def login(vocabulary: Vocabulary, permissions: Iterable[str]) -> Login:
    """Return a login whose audience is built by that vocabulary."""
    audience = Audience.build(vocabulary, permissions=permissions, groups=["1"])
    return Login("7", audience, "digest", 1.5, 2.5, "3-0")


def body(
    *clients: object, audiences: tuple[object, ...] = (), words: tuple[str, ...] = ()
) -> bytes:
    """Return a state as another program might have written it."""
    state = {
        "version": "9.9",
        "epoch": "e",
        "position": [1, 0],
        "words": words,
        "audiences": audiences,
        "clients": clients,
    }
    return HEAD + msgspec.msgpack.encode(state)


@given(st.data(), st.lists(st.tuples(words, words, st.sets(st.sampled_from("12")), st.booleans())))
def test_audiences_mean_the_same(data: st.DataObject, given_: list[tuple[set[str], ...]]) -> None:
    """Whatever the successor's vocabulary has already, an audience means the same words."""
    ours, theirs = Vocabulary(), Vocabulary()
    theirs.intern(data.draw(st.lists(st.sampled_from(["x.y", "content_type:3", "other.word"]))))

    def build(vocabulary: Vocabulary, parts: tuple[set[str], ...]) -> Audience:
        permissions, content_types, groups, superuser = parts
        return Audience.build(
            vocabulary,
            permissions=permissions,
            content_types=content_types,
            groups=groups,
            superuser=bool(superuser),
        )

    clients = [
        ClientState(
            Kind.GREETED,
            "192.0.2.1",
            None,
            1.0,
            admitted=Admitted(Login("7", build(ours, parts)), None),
        )
        for parts in given_
    ]
    read = decode(encode(State("1.0", "e", (1, 0), clients)), theirs)
    for client, parts in zip(read.clients, given_, strict=True):
        assert client.admitted is not None
        assert client.admitted.login.audience == build(theirs, parts)


@given(positions, st.booleans(), st.floats(0, math.inf), st.floats(0, math.inf))
def test_clients_are_as_they_were(
    position: tuple[int, int] | None,
    suspended: bool,  # noqa: FBT001 - drawn like the others
    expires: float,
    renews: float,
) -> None:
    """Everything that is known of a client arrives."""
    vocabulary = Vocabulary()
    one = login(vocabulary, ["app.look"])
    admitted = Admitted(one, position, suspended, expires, renews)
    clients = [
        ClientState(Kind.CONNECTED, "unix", None, 4.5),
        ClientState(Kind.UPGRADED, "::1", "192.0.2.9", 5.5),
        ClientState(Kind.BARE, "::1", "192.0.2.9", 6.5, 3, admitted),
        ClientState(Kind.GREETED, "::1", "192.0.2.9", 7.5, 4, admitted),
    ]
    state = State("1.2.3", "epoch", position, clients)
    assert decode(encode(state), vocabulary) == state


def test_one_audience_travels_once() -> None:
    """Ten thousand clients that may see the same are little longer than their other parts."""
    vocabulary = Vocabulary()
    many = [f"app.permission_{number}" for number in range(400)]
    client = ClientState(Kind.BARE, "::1", "::1", 1.0, 0, Admitted(login(vocabulary, many), (1, 0)))
    one, hundred = (encode(State("1", "e", (1, 0), [client] * count)) for count in (1, 100))
    assert len(hundred) - len(one) < 99 * 250


def test_an_unknown_field_is_passed_over() -> None:
    """What a newer daemon of the same version has added is ignored."""
    client = {"kind": "upgraded", "peer": "::1", "address": None, "opened": 1.0, "colour": "red"}
    [read] = decode(body(client), Vocabulary()).clients
    assert read == ClientState(Kind.UPGRADED, "::1", None, 1.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no state of notifyd"),
        (b"\x93\x01\n", "no state of notifyd"),
        (b"notifyd handover 2\n\x80", "the version 2"),
        (b"notifyd handover \xff\n\x80", "the version"),
        (HEAD, "damaged"),
        (HEAD + b"\x80", "damaged"),
        (body({"kind": "flying"}), "damaged"),
        (body({"kind": "bare", "peer": "", "address": None, "opened": 1.0}), "no user"),
        (
            body({"kind": "bare", "peer": "", "address": None, "opened": 1.0, "user": "7"}),
            "damaged",
        ),
        (
            body(
                {
                    "kind": "bare",
                    "peer": "",
                    "address": None,
                    "opened": 1.0,
                    "user": "7",
                    "audience": -1,
                }
            ),
            "no user",
        ),
        (
            body(
                audiences=(
                    {
                        "permissions": b"\x02",
                        "content_types": b"",
                        "groups": [],
                        "superuser": False,
                    },
                ),
                words=("app.look",),
            ),
            "words that are not in the table",
        ),
    ],
)
def test_unreadable(data: bytes, words: str) -> None:
    """What is of another form, newer, or damaged is refused, in words."""
    with pytest.raises(Unreadable, match=words):
        decode(data, Vocabulary())


def test_the_results_are_labels() -> None:
    """A result is a label, and so short and lower case."""
    assert all(each.isidentifier() and each.islower() for each in RESULTS)
