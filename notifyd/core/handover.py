"""What a daemon leaves to its successor beside the sockets: where it stood, and whom it served.

The bytes begin with a line that names their form and its version, and MessagePack follows. A field
may be added within a version, having a default; a change that an older daemon would misread is
another version, which it refuses to read.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from notifyd.core.audience import Audience
from notifyd.core.login import Login
from notifyd.core.positions import Position  # noqa: TC001 - msgspec reads annotations when it runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.audience import Vocabulary

VERSION: Final = 1

RESULTS: Final = ("given", "closed", "taken", "lost", "refused")
"""What became of a client: the label of `notifyd_handover_connections_total`."""

_MAGIC: Final = b"notifyd handover "


class Unreadable(Exception):  # noqa: N818 - it says what the state is
    """A state that this daemon can't read; the text says why."""


class Kind(enum.StrEnum):
    """How far a client has come: what is expected of it, and what it understands."""

    CONNECTED = "connected"
    """It has said nothing yet."""
    UPGRADED = "upgraded"
    """It is a WebSocket and owes the first message."""
    BARE = "bare"
    """It was let in by a bare token, and gets events only."""
    GREETED = "greeted"
    """It was let in and said hello: it knows control frames."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that was let in.

    Everything up to `position` was written to it (None: nobody has reached Redis yet). `suspended`:
    what its user may see has to be read anew before it gets anything more. `expires` and `renews`
    are when its connection and its ticket end, by the clock of ClientState.
    """

    login: Login
    position: Position | None
    suspended: bool = False
    expires: float = math.inf
    renews: float = math.inf


@dataclass(frozen=True, slots=True)
class ClientState:
    """One client at the boundary of a frame, owing and owed nothing.

    `opened` is in seconds of CLOCK_MONOTONIC (clock_gettime(2)), which all processes share;
    `events` counts what it was written. `admitted` is there if its kind says so.
    """

    kind: Kind
    peer: str
    address: str | None
    opened: float
    events: int = 0
    admitted: Admitted | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What the successor has to know: the history, the position that was relayed, the clients.

    The clients stand in the order of their sockets. `version` is the predecessor's, of notifyd.
    """

    version: str
    epoch: str | None
    position: Position | None
    clients: Sequence[ClientState] = field(default_factory=list)


class _Audience(msgspec.Struct):
    """An audience; its masks are indexes of the words in `_State`."""

    permissions: bytes
    content_types: bytes
    groups: list[str]
    superuser: bool


class _Client(msgspec.Struct, omit_defaults=True):
    """A client, flat; `audience` is an index of the audiences in `_State`."""

    kind: Kind
    peer: str
    address: str | None
    opened: float
    events: int = 0
    user: str = ""
    audience: int = 0
    digest: str = ""
    auth_time: float = 0.0
    read_at: float = 0.0
    as_of: str | None = None
    position: tuple[int, int] | None = None
    suspended: bool = False
    expires: float = math.inf
    renews: float = math.inf


class _State(msgspec.Struct):
    """The whole. The masks of audiences mean something by the table of words only."""

    version: str
    epoch: str | None
    position: tuple[int, int] | None
    words: list[str]
    audiences: list[_Audience]
    clients: list[_Client]


def encode(state: State) -> bytes:
    """Return the state as bytes."""
    audiences: dict[Audience, int] = {}
    clients = [_flatten(client, audiences) for client in state.clients]
    words = [audience.vocabulary.words(-1) for audience in audiences][:1]
    body = _State(
        state.version,
        state.epoch,
        state.position,
        words[0] if words else [],
        [_pack(audience) for audience in audiences],
        clients,
    )
    return _MAGIC + f"{VERSION}\n".encode() + msgspec.msgpack.encode(body)


def decode(data: bytes, vocabulary: Vocabulary) -> State:
    """Return the state that bytes hold, its audiences by this vocabulary. Raises Unreadable."""
    head, _, body = data.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise Unreadable("it is no state of notifyd")
    version = head.removeprefix(_MAGIC)
    if version != str(VERSION).encode():
        words = version.decode("ascii", "replace")
        raise Unreadable(f"it has the version {words}, and this daemon reads {VERSION}")
    try:
        read = msgspec.msgpack.decode(body, type=_State)
        audiences = [_unpack(each, read.words, vocabulary) for each in read.audiences]
        clients = [_unfold(each, audiences) for each in read.clients]
    except (msgspec.DecodeError, IndexError, ValueError) as error:
        raise Unreadable(f"it is damaged: {error}") from None
    return State(read.version, read.epoch, read.position, clients)


def _flatten(client: ClientState, audiences: dict[Audience, int]) -> _Client:
    flat = _Client(client.kind, client.peer, client.address, client.opened, client.events)
    if client.admitted is None:
        return flat
    login = client.admitted.login
    flat.user = login.user
    flat.audience = audiences.setdefault(login.audience, len(audiences))
    flat.digest = login.digest
    flat.auth_time, flat.read_at, flat.as_of = login.auth_time, login.read_at, login.as_of
    flat.position = client.admitted.position
    flat.suspended = client.admitted.suspended
    flat.expires, flat.renews = client.admitted.expires, client.admitted.renews
    return flat


def _unfold(flat: _Client, audiences: Sequence[Audience]) -> ClientState:
    admitted = None
    if flat.kind in {Kind.BARE, Kind.GREETED}:
        if not flat.user or flat.audience < 0:
            raise ValueError("a client that was let in has no user")
        audience = audiences[flat.audience]
        login = Login(flat.user, audience, flat.digest, flat.auth_time, flat.read_at, flat.as_of)
        admitted = Admitted(login, flat.position, flat.suspended, flat.expires, flat.renews)
    return ClientState(flat.kind, flat.peer, flat.address, flat.opened, flat.events, admitted)


def _pack(audience: Audience) -> _Audience:
    return _Audience(
        _bytes(audience.permissions),
        _bytes(audience.content_types),
        sorted(audience.groups),
        audience.superuser,
    )


def _unpack(packed: _Audience, words: Sequence[str], vocabulary: Vocabulary) -> Audience:
    permissions, content_types = (
        vocabulary.intern(_words(mask, words))
        for mask in (packed.permissions, packed.content_types)
    )
    groups = frozenset(packed.groups)
    return Audience(permissions, content_types, groups, packed.superuser, vocabulary)


def _bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _words(packed: bytes, words: Sequence[str]) -> list[str]:
    """Return the words of a mask. Raises ValueError where it means one that there isn't."""
    mask = int.from_bytes(packed, "little")
    if mask.bit_length() > len(words):
        raise ValueError("an audience has words that are not in the table")
    return [word for bit, word in enumerate(words) if mask >> bit & 1]
