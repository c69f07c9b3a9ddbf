"""Acknowledgements: how far a page's word that it has an event is believed.

A client can say what it likes, so its word changes nothing but a figure, and that only within
bounds: an event that cannot have been relayed, or that nobody keeps any more, is not believed, and
nobody has a say more often than others.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from notifyd.core.limits import Bucket, Buckets
from notifyd.core.positions import parse_position

if TYPE_CHECKING:
    from notifyd.core.positions import Position

PER_USER: Final = 1.0
"""Acknowledgements of one user that count in a second, as many as a page sends at most."""

PER_DAEMON: Final = 100.0
"""Those of all users that count in a second: plenty for quantiles, and nothing for a processor."""

# A user's bucket is full again after a second, in which the daemon's lets a burst and a second's
# worth through. There are never more buckets in use, so none is ever forgotten too early.
_MOST: Final = 2 * int(PER_DAEMON)


class Acknowledgement(enum.StrEnum):
    """What became of an acknowledgement."""

    OK = "ok"
    REPLAYED = "replayed"
    UNKNOWN = "unknown"
    LIMITED = "limited"


class Acknowledgements:
    """Judges acknowledgements.

    `history` is how long the stream keeps an event, in seconds: one that is older is not known.
    """

    def __init__(self, history: float) -> None:
        self._history = history
        self._users = Buckets(PER_USER, PER_USER, _MOST)
        self._daemon = Bucket(PER_DAEMON, PER_DAEMON)

    def judge(
        self,
        id_: str,
        user: str | None,
        newest: Position | None,
        *,
        opened: float,
        clock: float,
        now: float,
    ) -> tuple[Acknowledgement, float]:
        """Return whether a user's acknowledgement counts, and the seconds since the publication.

        `newest` is the position up to which events were written to clients, `clock` the Unix time,
        and `now` that of a monotonic clock, by which the connection was `opened`. The seconds are
        negative where the clocks of Redis and this host disagree, and 0 of what is unknown.
        """
        try:
            position = parse_position(id_)
        except ValueError:
            return Acknowledgement.UNKNOWN, 0.0
        age = clock - position[0] / 1000
        if user is None or newest is None or position > newest or age > self._history:
            return Acknowledgement.UNKNOWN, 0.0
        if age > now - opened:
            # How long the page was away says nothing about how long events take.
            return Acknowledgement.REPLAYED, age
        if self._daemon.empty(now) or not self._users.take(user, now):
            return Acknowledgement.LIMITED, age
        self._daemon.take(now)
        return Acknowledgement.OK, age
