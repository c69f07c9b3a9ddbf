"""The outcome of an authentication: a Login, or Refused with the result that is counted."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notifyd.core.protocol import CloseCode

if TYPE_CHECKING:
    from notifyd.core.audience import Audience


class Result(enum.StrEnum):
    """How an authentication ended: the label of `notifyd_authentications_total`."""

    OK = "ok"
    EXPIRED = "expired"
    INVALID = "invalid"
    INACTIVE = "inactive"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    ERROR = "error"


class Outcome(enum.StrEnum):
    """What became of reading a user anew: the label of `notifyd_rechecks_total`."""

    KEPT = "kept"
    CHANGED = "changed"
    REVOKED = "revoked"
    STALE = "stale"
    ERROR = "error"
    TIMEOUT = "timeout"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says of an active user: what the user may see, and digests of the log-in.

    A digest changes with the user's password. The first is the one by the site's present key, the
    others are by keys that it still accepts; none where the site's users have no password.
    """

    audience: Audience
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """A user who was authenticated: the primary key as text, and what the user may see.

    `digest` is the first of the user's `Standing`, empty if there is none. `auth_time` is when the
    user's first token was accepted, and `read_at` when the audience was last read from the
    database, both in seconds since the Unix epoch. `as_of` is a position of the stream that had
    been relayed before that; None: none was known.
    """

    user: str
    audience: Audience
    digest: str = ""
    auth_time: float = 0.0
    read_at: float = 0.0
    as_of: str | None = None


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """An authentication that failed; its text is for the log and names no secret."""

    def __init__(self, result: Result, detail: str = "") -> None:
        super().__init__(detail or result.value)
        self.result = result

    @property
    def code(self) -> CloseCode:
        """The close code for the client: it learns whether to retry, not why it was refused."""
        match self.result:
            case Result.RATE_LIMITED:
                return CloseCode.TOO_MANY
            case Result.TIMEOUT | Result.ERROR:
                return CloseCode.TRY_LATER
            case _:
                return CloseCode.AUTHENTICATION_FAILED
