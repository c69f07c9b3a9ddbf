"""The conversation between notifyd and a client: its messages and its close codes.

Everything here is a value or makes one. Who says what, and when, is decided in `session`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec
from websockets.frames import Frame, Opcode

if TYPE_CHECKING:
    from collections.abc import Mapping


_SHORT: Final = 125
_MEDIUM: Final = 65_535
"""The longest payloads whose length takes no bytes of its own, and two."""

_MASK: Final = 4
"""Bytes of a client's masking key."""


class Reconnect(enum.StrEnum):
    """What a client does after a close: the rule that notifyd.js and other clients follow."""

    NO = "no"
    YES = "yes"
    LATER = "later"
    NEW_TOKEN = "with a new token"  # noqa: S105 - a rule in words


class CloseCode(enum.IntEnum):
    """Why a connection ended (RFC 6455 section 7.4; 4000-4999 are for applications).

    Each code carries the short reason that is sent with it, whether a client should reconnect,
    and the meaning that the reference documentation prints.
    """

    reason: str
    reconnect: Reconnect
    meaning: str

    def __new__(cls, code: int, reason: str, reconnect: Reconnect, meaning: str) -> Self:
        """Attach what belongs to a code to its number."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        member.reconnect = reconnect
        member.meaning = meaning
        return member

    NORMAL = 1000, "", Reconnect.NO, "Closed by the client, its work done."
    GOING_AWAY = 1001, "", Reconnect.NO, "Closed by the client: its page was left."
    PROTOCOL_ERROR = 1002, "protocol error", Reconnect.NO, "The client broke RFC 6455."
    UNSUPPORTED_DATA = 1003, "", Reconnect.NO, "Closed by the client: data it can't take."
    NO_STATUS = 1005, "", Reconnect.YES, "Closed by the client, which gave no code."
    ABNORMAL = 1006, "", Reconnect.YES, "The peer vanished: no Close frame was exchanged."
    INVALID_DATA = 1007, "invalid UTF-8", Reconnect.NO, "A text message was not UTF-8."
    TOO_BIG = 1009, "message too big", Reconnect.NO, "A message was longer than max_message."
    INTERNAL_ERROR = 1011, "", Reconnect.LATER, "The daemon failed; its log says how."
    RESTART = 1012, "service restart", Reconnect.YES, "The daemon stops or restarts."
    TRY_LATER = (
        1013,
        "try again later",
        Reconnect.LATER,
        "Overloaded, or the database is unreachable or too slow to authenticate.",
    )
    BAD_HELLO = 4400, "bad hello", Reconnect.NO, "The first message is no hello and no token."
    AUTHENTICATION_FAILED = (
        4401,
        "authentication failed",
        Reconnect.NEW_TOKEN,
        (
            "Token or ticket is expired, invalid or of an inactive user, or the user has logged out"
            " or changed the password since. Twice in a row with new tokens: stop."
        ),
    )
    REVOKED = (
        4403,
        "access revoked",
        Reconnect.NO,
        "The user was deactivated or deleted, or disconnected by the site or an operator.",
    )
    HELLO_TIMEOUT = 4408, "no hello in time", Reconnect.YES, "No first message within its time."
    LIFETIME_OVER = (
        4410,
        "connection lifetime over",
        Reconnect.NEW_TOKEN,
        "It is long since the user has shown a token: a new one is due.",
    )
    TOO_SLOW = (
        4420,
        "too slow",
        Reconnect.YES,
        "The client takes nothing any more, or so slowly that the history has left it.",
    )
    TOO_MANY = (
        4429,
        "too many",
        Reconnect.LATER,
        "Too many connections, failed attempts or messages.",
    )


class BadHello(ValueError):  # noqa: N818 - what it is, as the close code calls it
    """The first message is neither a token nor a hello; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's first message.

    Either `token` or `ticket` says who it is. `bare` clients (the plain guide's) sent nothing but
    a token and get nothing but events; the others get control frames too. `since` is the id of
    the last event that the client has, `epoch` names the history which that id belongs to.
    """

    token: str | None = None
    ticket: str | None = None
    since: str | None = None
    epoch: str | None = None
    bare: bool = False


class _Hello(msgspec.Struct, frozen=True):
    """A hello on the wire: keys may be absent, but null is no string."""

    token: str | msgspec.UnsetType = msgspec.UNSET
    ticket: str | msgspec.UnsetType = msgspec.UNSET
    since: str | msgspec.UnsetType = msgspec.UNSET
    epoch: str | msgspec.UnsetType = msgspec.UNSET


class _Ack(msgspec.Struct, frozen=True):
    """A client's word that it has received the event `id`, on the wire."""

    # A plain key and no msgspec tag, which may be absent: any object with an id would pass.
    notifyd: Literal["ack"]
    id: str


_hello = msgspec.json.Decoder(_Hello)
_ack = msgspec.json.Decoder(_Ack)


def parse_hello(text: str) -> Hello:
    """Read the first message: a text that begins with `{` is a hello, any other is a token.

    Raises BadHello where it is neither, never quoting it: it may contain a secret.
    """
    text = text.strip()
    if not text.startswith("{"):
        return Hello(token=text, bare=True)
    try:
        hello = _hello.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadHello(_without_values(error)) from None
    if (hello.token is msgspec.UNSET) == (hello.ticket is msgspec.UNSET):
        raise BadHello("a hello has either a token or a ticket")
    given = {k: v for k, v in msgspec.structs.asdict(hello).items() if v is not msgspec.UNSET}
    return Hello(**given)


def parse_ack(text: str) -> str | None:
    """Return the id that the message acknowledges, None if it is not an acknowledgement."""
    try:
        return _ack.decode(text).id
    except (ValueError, RecursionError):
        return None


def _without_values(error: Exception) -> str:
    # msgspec names the place and the expected type; it never repeats the input. What it says of
    # malformed JSON is an offset, of use to nobody who can't see the message.
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return "not a JSON object"


def size_of(frame: Frame) -> int:
    """Return how many bytes a client's frame takes (RFC 6455 section 5.2).

    Fewer than it took if its length was written longer than it need be.
    """
    length = len(frame.data)
    extended = 0 if length <= _SHORT else 2 if length <= _MEDIUM else 8
    return 2 + extended + _MASK + length


def text_frame(payload: bytes) -> bytes:
    """Return the one unfragmented, unmasked text frame for `payload` (RFC 6455 section 5.2).

    A server's frames are not masked: the same bytes serve every client.
    """
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


PING_FRAME: Final = Frame(Opcode.PING, b"").serialize(mask=False)
"""The protocol ping (RFC 6455 section 5.5.2), which browsers answer but never show to a page."""


def _control(kind: str, **fields: object) -> bytes:
    message: Mapping[str, object] = {"notifyd": kind, **fields}
    return text_frame(msgspec.json.encode(message))


def welcome_frame(
    *,
    ticket: str | None,
    ticket_ttl: float | None,
    epoch: str | None,
    last_id: str | None,
    recovered: bool | None,
    ping: float,
    ack: float,
) -> bytes:
    """Return the answer to a hello that was accepted.

    `ticket` admits for `ticket_ttl` seconds in place of a token. `last_id` is the position of the
    client in the history `epoch`; `recovered` says whether it gets all that it has missed since
    the position it asked for (None: it asked for none); `ping` is in seconds. `ack` is the part of
    the events that it is asked to acknowledge; where it is 0 nobody is asked.
    """
    sample = {"ack": ack} if ack else {}
    return _control(
        "welcome",
        ticket=ticket,
        ticket_ttl=ticket_ttl,
        epoch=epoch,
        last_id=last_id,
        recovered=recovered,
        ping=ping,
        **sample,
    )


def ticket_frame(ticket: str, ticket_ttl: float) -> bytes:
    """Return a new ticket, which is good for `ticket_ttl` seconds."""
    return _control("ticket", ticket=ticket, ticket_ttl=ticket_ttl)


def ping_frame(last_id: str | None) -> bytes:
    """Return the ping that a page can see: everything up to `last_id` was written to it."""
    return _control("ping", last_id=last_id)


def resync_frame(reason: str, *, epoch: str | None, last_id: str | None) -> bytes:
    """Return the word that events may be missing: the page should load its state anew.

    It gets what comes behind the position `last_id` of the history `epoch`.
    """
    return _control("resync", reason=reason, epoch=epoch, last_id=last_id)


def closing_frame(retry_in: float) -> bytes:
    """Return the word that the daemon is about to close; `retry_in` is in seconds."""
    return _control("closing", retry_in=round(retry_in, 3))
