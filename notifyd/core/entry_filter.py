"""Which entries of the bus somebody wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from notifyd.core.audience import named_users
from notifyd.core.controls import parse_order
from notifyd.core.events import Control, parse_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifyd.core.events import Rule


@dataclass(frozen=True, slots=True)
class Filter:
    """Lets pass what is about any of the content types, and names any of the users.

    Keys of the database are text. An empty set lets everything pass.
    """

    content_types: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def admits(self, id_: str | None, fields: Mapping[bytes, bytes]) -> bool:
        """Tell whether an entry passes; one that no daemon can read passes no filter."""
        if not self.content_types and not self.users:
            return True
        try:
            entry = parse_entry(fields, id_)
            if isinstance(entry, Control):
                return not self.content_types and not self.users.isdisjoint(_ordered(entry.body))
        except ValueError:
            return False
        return self._about(entry.rule, fields[b"event"]) and self._names(entry.rule)

    def _about(self, rule: Rule, payload: bytes) -> bool:
        if not self.content_types:
            return True
        key = msgspec.json.decode(payload).get("content_type_id")
        return bool(self.content_types & (_content_types(rule) | {str(key)}))

    def _names(self, rule: Rule) -> bool:
        return not self.users or not self.users.isdisjoint(named_users(rule))


def _content_types(rule: Rule) -> frozenset[str]:
    """Return the content types that stand anywhere in a rule."""
    return rule.content_types.union(*map(_content_types, rule.all))


def _ordered(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the users whom an order names. Raises ValueError for one that can't be read."""
    order = parse_order(body)
    return order.recheck_users | order.disconnect | order.reauthenticate
