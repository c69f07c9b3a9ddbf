"""Audiences: what one user may see, small enough to keep for every distinct set of permissions.

Four hundred permission names as a frozenset are 60 KB; as bits of an integer they are 50 bytes.
The table that gives each name its bit is shared by all audiences of a daemon.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from notifyd.core.events import Rule


class Vocabulary:
    """The one table of names and their bits. Names are added and never given up.

    It is bounded because only what Django knows is interned: the names in published rules are
    merely looked up. Threads that read users may intern at the same time.
    """

    __slots__ = ("_bits", "_lock")

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._bits)

    def intern(self, words: Iterable[str]) -> int:
        """Return the mask of the words, adding those that are new."""
        mask = 0
        for word in words:
            bit = self._bits.get(word)
            if bit is None:
                # Without the lock two threads could give the same bit to two names, and whoever
                # has one permission would have the other.
                with self._lock:
                    bit = self._bits.setdefault(word, len(self._bits))
            mask |= 1 << bit
        return mask

    def find(self, words: Iterable[str]) -> int:
        """Return the mask of those words that are known. The others belong to nobody."""
        mask = 0
        for word in words:
            bit = self._bits.get(word)
            if bit is not None:
                mask |= 1 << bit
        return mask

    def words(self, mask: int) -> list[str]:
        """Return the words that a mask was made of, in the order in which they became known."""
        # A copy: other threads may add words meanwhile. A word's bit is its place in the table.
        return [word for bit, word in enumerate(list(self._bits)) if mask >> bit & 1]


@dataclasses.dataclass(frozen=True, slots=True)
class Audience:
    """What a user may see, whoever the user is: those with equal audiences can share one.

    ``permissions`` and ``content_types`` are masks over the vocabulary. They are compared only
    with their like, so a permission that is named like a content type grants nothing more.
    Audiences of different vocabularies can't be compared.
    """

    permissions: int
    content_types: int
    groups: frozenset[str]
    superuser: bool
    vocabulary: Vocabulary = dataclasses.field(compare=False, repr=False)

    @classmethod
    def build(
        cls,
        vocabulary: Vocabulary,
        *,
        permissions: Iterable[str] = (),
        content_types: Iterable[int | str] = (),
        groups: Iterable[int | str] = (),
        superuser: bool = False,
    ) -> Audience:
        """Make an audience from "app.codename" names and keys of the database.

        What a superuser was given by name is dropped: the flag covers it, and superusers share
        one audience whatever else they were granted.
        """
        if superuser:
            permissions = content_types = ()
        return cls(
            permissions=vocabulary.intern(permissions),
            content_types=vocabulary.intern(map(_content_type, content_types)),
            groups=frozenset(map(str, groups)),
            superuser=superuser,
            vocabulary=vocabulary,
        )

    def sees(self, rule: Rule, user: str | None = None) -> bool:
        """Tell whether the rule admits this audience, as the user with that primary key.

        Without a user the question is about whoever has this audience, and ``users`` matches
        nobody. The answer never changes: a name that is interned later is not in these masks.
        """
        if rule.everyone or (user is not None and user in rule.users):
            return True
        if not self.groups.isdisjoint(rule.groups) or self._granted(rule):
            return True
        return bool(rule.all) and all(self.sees(part, user) for part in rule.all)

    def _granted(self, rule: Rule) -> bool:
        """Tell whether the audience has one of the rule's permissions or content types."""
        if self.superuser:
            return bool(rule.permissions or rule.content_types)
        content_types = self.vocabulary.find(map(_content_type, rule.content_types))
        permissions = self.vocabulary.find(rule.permissions)
        return bool(self.content_types & content_types or self.permissions & permissions)


def _content_type(key: int | str) -> str:
    return f"content_type:{key}"


def named_users(rule: Rule) -> frozenset[str]:
    """Return the users who stand anywhere in a rule: for nobody else it matters who they are."""
    return rule.users.union(*map(named_users, rule.all))


def for_named_users_only(rule: Rule) -> bool:
    """Tell whether a rule admits nobody but users that it names, whatever their audience is."""
    if rule.everyone or rule.groups or rule.permissions or rule.content_types:
        return False
    return not rule.all or any(map(for_named_users_only, rule.all))
