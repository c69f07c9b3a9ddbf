"""Who is connected, grouped by what they may see; who gets an event, and what each is written.

Clients whose users may see the same share a group, so a rule is tested once for each distinct
audience and not for each client. The outcome is remembered for each rule and kept up to date as
groups come and go: the cost of an event follows its recipients.

A member that is suspended has no group: it is connected, but gets nothing from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from notifyd.core.audience import for_named_users_only, named_users

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from notifyd.core.audience import Audience
    from notifyd.core.events import Rule

Member = TypeVar("Member")

_MOST_RULES: Final = 1024
"""How many rules are remembered. Those for named users alone, the many, need no memory."""


@dataclass(slots=True, eq=False)
class Group(Generic[Member]):
    """The clients whose users share one audience."""

    audience: Audience
    # A dict for its order: sockets that were made one after the other lie side by side in the
    # kernel's memory, and writing to them in that order costs a tenth less than at random.
    members: dict[Member, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[Member]):
    """Bytes for some members: `events` frames in stream order, joined for one write each."""

    members: list[Member]
    data: bytes
    events: int


class Hub(Generic[Member]):
    """The members of a daemon. A member is whatever the edge writes to; it must be hashable."""

    def __init__(self) -> None:
        self._groups: dict[Audience, Group[Member]] = {}
        self._users: dict[str, dict[Member, Group[Member] | None]] = {}
        self._matches: dict[Rule, set[Group[Member]]] = {}

    @property
    def users(self) -> int:
        """How many distinct users are connected."""
        return len(self._users)

    @property
    def audiences(self) -> int:
        """How many distinct audiences the connected users have."""
        return len(self._groups)

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))

    def __contains__(self, user: str) -> bool:
        return user in self._users

    def connections(self, user: str) -> int:
        """Return how many members the user has."""
        return len(self._users.get(user, ()))

    def members(self, user: str) -> list[Member]:
        """Return the user's members, suspended ones too, as they are now."""
        return [*self._users.get(user, ())]

    def audiences_of(self, user: str) -> list[tuple[Member, Audience | None]]:
        """Return the user's members, and what each may see; None: it is suspended."""
        mine = self._users.get(user, {})
        return [(each, None if group is None else group.audience) for each, group in mine.items()]

    def users_of(self, groups: AbstractSet[str]) -> list[str]:
        """Return the users who have an audience with one of these groups of Django's.

        And those who have a suspended member: nobody knows which groups they are in.
        """
        matching = {
            group for group in self._groups.values() if not group.audience.groups.isdisjoint(groups)
        }
        return [
            user
            for user, mine in self._users.items()
            if any(group is None or group in matching for group in mine.values())
        ]

    def all_users(self) -> list[str]:
        """Return all users, as they are now."""
        return [*self._users]

    def join(self, member: Member, user: str, audience: Audience) -> None:
        """Let the member receive what the user, having that audience, may see.

        A member that has a group must leave it, or be suspended, before it joins anew.
        """
        group = self._groups.get(audience)
        if group is None:
            group = self._groups[audience] = Group(audience)
            for rule, matching in self._matches.items():
                if audience.sees(rule):
                    matching.add(group)
        group.members[member] = None
        self._users.setdefault(user, {})[member] = group

    def suspend(self, member: Member, user: str) -> None:
        """Let the member, new or not, receive nothing until it joins a group."""
        mine = self._users.setdefault(user, {})
        group = mine.get(member)
        mine[member] = None
        if group is not None:
            self._remove(member, group)

    def leave(self, member: Member, user: str) -> None:
        """Take the member out; harmless where it is not in."""
        mine = self._users.get(user, {})
        if member not in mine:
            return
        group = mine.pop(member)
        if not mine:
            del self._users[user]
        if group is not None:
            self._remove(member, group)

    def _remove(self, member: Member, group: Group[Member]) -> None:
        del group.members[member]
        if not group.members:
            del self._groups[group.audience]
            for matching in self._matches.values():
                matching.discard(group)

    def deliveries(self, events: Sequence[tuple[Rule, bytes]]) -> list[Delivery[Member]]:
        """Decide who is written what, for a batch of events as rules and frames in stream order.

        Every member stands in one delivery at most, with each of its frames once, however many
        of the rule's alternatives match. The members are a snapshot: whoever joins or leaves
        while they are being written to does not disturb it.
        """
        of_groups: dict[Group[Member], list[int]] = {}
        of_members: dict[Member, tuple[Group[Member], list[int]]] = {}
        for index, (rule, _) in enumerate(events):
            matching = self._matching(rule)
            for group in matching:
                of_groups.setdefault(group, []).append(index)
            for user in named_users(rule):
                for member, own in self._users.get(user, {}).items():
                    if own is None or own in matching:
                        continue
                    if own.audience.sees(rule, user):
                        of_members.setdefault(member, (own, []))[1].append(index)
        # Members that get the same frames of the batch share a delivery and its bytes.
        members: dict[tuple[int, ...], list[Member]] = {}
        for group, indexes in of_groups.items():
            others = [member for member in group.members if member not in of_members]
            members.setdefault(tuple(indexes), []).extend(others)
        for member, (group, indexes) in of_members.items():
            merged = sorted(indexes + of_groups.get(group, []))
            members.setdefault(tuple(merged), []).append(member)
        return [
            Delivery(some, b"".join([events[index][1] for index in indexes]), len(indexes))
            for indexes, some in members.items()
            if some
        ]

    def _matching(self, rule: Rule) -> set[Group[Member]]:
        """Return the groups that see the rule whoever their users are."""
        if for_named_users_only(rule):
            return set()
        matching = self._matches.get(rule)
        if matching is None:
            if len(self._matches) >= _MOST_RULES:
                self._matches.clear()
            matching = {group for group in self._groups.values() if group.audience.sees(rule)}
            self._matches[rule] = matching
        return matching
