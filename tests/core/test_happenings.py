from __future__ import annotations

import dataclasses
import typing

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidMethod, InvalidOrigin, InvalidUpgrade

from notifyd.core.happenings import (
    Acknowledged,
    Closing,
    Greeted,
    Happening,
    Ignored,
    NotUpgraded,
    NotUpgradedReason,
    Phase,
    Requested,
)
from notifyd.core.protocol import Hello


def test_the_phases_in_their_order() -> None:
    """The label of `notifyd_connections` is one of six names, in the order of a conversation."""
    names = [phase.value for phase in Phase]
    assert names == ["handshake", "hello", "authenticating", "live", "behind", "closing"]


def test_the_reasons_are_labels() -> None:
    """A reason for not upgrading is a label, and so short and lower case."""
    assert all(str(reason).isidentifier() and reason.islower() for reason in NotUpgradedReason)


@pytest.mark.parametrize(
    "happening",
    [
        Requested("/", Headers()),
        NotUpgraded(NotUpgradedReason.ORIGIN, "invalid Origin", "https://foreign.example"),
        Greeted(Hello(token="abc", bare=True)),
        Acknowledged("1-0"),
        Ignored(),
        Closing("closed by the client"),
    ],
)
def test_what_happened_stays(happening: Happening) -> None:
    """A happening is a light value, equal by what it says, that nobody can change."""
    assert type(happening) in typing.get_args(Happening)
    assert dataclasses.replace(happening) == happening
    assert not hasattr(happening, "__dict__")
    for field in dataclasses.fields(happening):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(happening, field.name, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            InvalidOrigin("https://foreign.example"),
            NotUpgraded(
                NotUpgradedReason.ORIGIN,
                "invalid Origin header: https://foreign.example",
                "https://foreign.example",
            ),
        ),
        (InvalidMethod("POST"), NotUpgradedReason.NOT_WEBSOCKET),
        (InvalidUpgrade("Upgrade"), NotUpgradedReason.NOT_WEBSOCKET),
        (InvalidHandshake("odd"), NotUpgradedReason.MALFORMED),
        (None, NotUpgradedReason.MALFORMED),
    ],
)
def test_what_websockets_has_against_it(
    error: Exception | None, expected: NotUpgraded | NotUpgradedReason
) -> None:
    """A foreign origin, what is no WebSocket, and all else are told apart."""
    found = NotUpgraded.by(error)
    assert expected in {found, found.reason}
