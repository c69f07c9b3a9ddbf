"""Tickets: what a client shows in place of a token when it comes back.

A ticket is signed with the site's key, and says who its client is and what that user may see. So
it admits without the database, where the stream tells that nothing has changed since.
"""

from __future__ import annotations

import base64
import functools
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from django.core.signing import BadSignature, Signer

from notifyd.core.audience import Audience
from notifyd.core.login import Login, Refused, Result

if TYPE_CHECKING:
    from notifyd.core.audience import Vocabulary

_VERSION: Final = 1

_SALT: Final = "notifyd.ticket"

_LONGEST: Final = 3_500
"""Characters: with `since` and `epoch` beside it, a hello stays below the 4,096 bytes that a
client may send."""

_SIGNATURE: Final = 44
"""Characters of a dot and a signature by SHA-256 (django.core.signing)."""

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}")

_BEST: Final = 9
"""The level of zlib; an audience is packed once for all who have it."""

_LARGEST: Final = 1 << 18
"""Bytes of an audience: a little that was packed could become a thousand times as much."""

_SKEW: Final = 60.0
"""Seconds by which the clocks of two daemons may differ."""

_DISTINCT: Final = 1_024
"""Audiences that are remembered: ten thousand clients have few among them."""


class _Body(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A ticket as it travels. Times are in seconds since the Unix epoch."""

    version: int
    user: str
    digest: str
    audience: bytes | None
    as_of: str | None
    epoch: str | None
    auth_time: float
    read_at: float
    issued: float


class _Audience(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An audience in words, since bits mean something else in another process."""

    permissions: list[str]
    content_types: list[str]
    groups: list[str]
    superuser: bool


_body = msgspec.msgpack.Decoder(_Body)
_audience = msgspec.msgpack.Decoder(_Audience)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says: a login as it was, and the history that its position belongs to.

    Without room for the audience the ticket is not `complete`: the login has that of somebody who
    may see nothing, and the user has to be read anew.
    """

    login: Login
    epoch: str | None
    complete: bool


class Tickets:
    """Issues and opens tickets. They are good for `ttl` seconds from their issue.

    None is good beyond `lifetime` seconds after the user's token was accepted (math.inf: no
    bound). Times are in seconds since the Unix epoch, the caller's `now` too.
    """

    def __init__(self, vocabulary: Vocabulary, *, ttl: float, lifetime: float) -> None:
        self._vocabulary = vocabulary
        self.configure(ttl=ttl, lifetime=lifetime)
        self._signer = Signer(salt=_SALT, sep=".")
        self._nobody = Audience.build(vocabulary)
        self._pack = functools.lru_cache(_DISTINCT)(self._pack_anew)
        self._unpack = functools.lru_cache(_DISTINCT)(self._unpack_anew)

    def configure(self, *, ttl: float, lifetime: float) -> None:
        """Open tickets by these times from now on, whenever they were issued."""
        self._ttl = ttl
        self._lifetime = lifetime

    def issue(self, login: Login, epoch: str | None, now: float) -> str:
        """Return a ticket for the login, whose position is one of the history `epoch`."""
        text = _encode(login, self._pack(login.audience), epoch, now)
        if len(text) > _LONGEST - _SIGNATURE:
            text = _encode(login, None, epoch, now)
        return self._signer.sign(text)

    def open(self, ticket: str, now: float) -> Ticket:
        """Return what a ticket says.

        Raises Refused with Result.INVALID for whatever is not a ticket of ours, and with
        Result.EXPIRED for one that is too old, or whose login is. Of what it says no more than
        the user's key is in the text.
        """
        try:
            body = self._read(ticket)
            audience = self._nobody if body.audience is None else self._unpack(body.audience)
        except (BadSignature, ValueError, RecursionError, zlib.error):
            raise Refused(Result.INVALID, "not a ticket of this site") from None
        times = body.auth_time, body.read_at, body.issued
        # So that what is no number is refused, too.
        if not all(0 <= each <= now + _SKEW for each in times):
            raise Refused(Result.INVALID, "a ticket from another time")
        if now >= min(body.issued + self._ttl, body.auth_time + self._lifetime):
            raise Refused(Result.EXPIRED, f"the ticket of user {body.user} has expired")
        login = Login(
            body.user,
            audience,
            body.digest,
            body.auth_time,
            read_at=body.read_at,
            as_of=body.as_of,
        )
        return Ticket(login, body.epoch, complete=body.audience is not None)

    def _read(self, ticket: object) -> _Body:
        """Return the body of a ticket. Raises BadSignature or ValueError."""
        if not isinstance(ticket, str) or len(ticket) > _LONGEST or not _FORM.fullmatch(ticket):
            raise BadSignature
        # Nothing is looked at before the signature: what is signed comes from a daemon like this.
        text = self._signer.unsign(ticket)
        body = _body.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if body.version != _VERSION:
            raise BadSignature
        return body

    def _pack_anew(self, audience: Audience) -> bytes | None:
        """Return an audience in bytes, for equal ones the same everywhere; None: too many."""
        words = _Audience(
            permissions=sorted(self._vocabulary.words(audience.permissions)),
            content_types=sorted(self._vocabulary.words(audience.content_types)),
            groups=sorted(audience.groups),
            superuser=audience.superuser,
        )
        unpacked = msgspec.msgpack.encode(words)
        return zlib.compress(unpacked, _BEST) if len(unpacked) <= _LARGEST else None

    def _unpack_anew(self, packed: bytes) -> Audience:
        stream = zlib.decompressobj()
        words = _audience.decode(stream.decompress(packed, _LARGEST))
        return Audience(
            permissions=self._vocabulary.intern(words.permissions),
            content_types=self._vocabulary.intern(words.content_types),
            groups=frozenset(words.groups),
            superuser=words.superuser,
            vocabulary=self._vocabulary,
        )


def _encode(login: Login, audience: bytes | None, epoch: str | None, now: float) -> str:
    body = _Body(
        version=_VERSION,
        user=login.user,
        digest=login.digest,
        audience=audience,
        as_of=login.as_of,
        epoch=epoch,
        auth_time=login.auth_time,
        read_at=login.read_at,
        issued=now,
    )
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(body)).rstrip(b"=").decode()
