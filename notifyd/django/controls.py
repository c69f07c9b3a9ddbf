"""Controls: what the site tells the daemons themselves, and no browser gets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from notifyd.django.bus import Fields

MOST: Final = 1000
"""Users and groups that a recheck names at most: beyond that, everybody's turn is cheaper."""


@dataclass(slots=True)
class Controls:
    """What the daemons are to do; the keys of the database are texts.

    Read anew what these users, the members of these groups or all may see; end the connections of
    these users, for good or until they have a new token.
    """

    users: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    everyone: bool = False
    disconnect: set[str] = field(default_factory=set)
    reauthenticate: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everyone or any((self.users, self.groups, self.disconnect, self.reauthenticate))

    def merge(self, other: Controls) -> None:
        """Add what another asks for."""
        self.users |= other.users
        self.groups |= other.groups
        self.everyone |= other.everyone
        self.disconnect |= other.disconnect
        self.reauthenticate |= other.reauthenticate

    def encode(self) -> Fields:
        """Return the fields of one entry of the bus that asks for all of it."""
        body: dict[str, Any] = {}
        if self.everyone or len(self.users) + len(self.groups) > MOST:
            body["recheck"] = {"all": True}
        elif self.users or self.groups:
            body["recheck"] = _lists(users=self.users, groups=self.groups)
        for name, users in (
            ("disconnect", self.disconnect),
            ("reauthenticate", self.reauthenticate),
        ):
            if users:
                body[name] = _lists(users=users)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return {b"control": text.encode()}


def _lists(**named: Iterable[str]) -> dict[str, list[str]]:
    return {name: sorted(keys) for name, keys in named.items() if keys}
