"""What can happen in a conversation: the values that a session returns to its edge."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from websockets.exceptions import InvalidMethod, InvalidOrigin, InvalidUpgrade

if TYPE_CHECKING:
    from websockets.datastructures import Headers

    from notifyd.core.protocol import Hello


class Phase(enum.Enum):
    """How far a conversation has come: the label of `notifyd_connections`."""

    HANDSHAKE = "handshake"
    HELLO = "hello"
    AUTHENTICATING = "authenticating"
    LIVE = "live"
    BEHIND = "behind"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Requested:
    """A handshake request has come: answer it with `accept` or `refuse`, before all else."""

    path: str
    headers: Headers


class NotUpgradedReason(enum.StrEnum):
    """Why a connection was not upgraded: the label of `notifyd_connections_refused_total`."""

    MALFORMED = "malformed"
    NOT_WEBSOCKET = "not_websocket"
    ORIGIN = "origin"
    PATH = "path"
    TIMEOUT = "timeout"
    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class NotUpgraded:
    """No acceptable handshake request has come, and the client was told so, unless it was late.

    `origin` is the foreign origin where that was the fault.
    """

    reason: NotUpgradedReason
    detail: str
    origin: str | None = None

    @classmethod
    def by(cls, error: Exception | None) -> Self:
        """Return what websockets had against a request."""
        detail = str(error)
        if isinstance(error, InvalidOrigin):
            return cls(NotUpgradedReason.ORIGIN, detail, error.value)
        if isinstance(error, InvalidMethod | InvalidUpgrade):
            return cls(NotUpgradedReason.NOT_WEBSOCKET, detail)
        return cls(NotUpgradedReason.MALFORMED, detail)


@dataclass(frozen=True, slots=True)
class Greeted:
    """The first message has come: authenticate the client."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The client has received the event `id`."""

    id: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message has come that means nothing here."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The conversation is over: a Close was sent or received, `detail` says why in words."""

    detail: str


Happening = Requested | NotUpgraded | Greeted | Acknowledged | Ignored | Closing
