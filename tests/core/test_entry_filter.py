"""Which entries pass a filter."""

from __future__ import annotations

import pytest

from notifyd.core.entry_filter import Filter

GUIDE = {b"event": b'{"content_type_id": 3}'}
NAMED = {b"event": b'{"content_type_id": 3}', b"to": b'{"users": [7, 8]}'}
WITHIN = {b"event": b"{}", b"to": b'{"all": [{"users": [7]}, {"content_types": [4]}]}'}
BROKEN = {b"event": b"{"}
RECHECK = {b"control": b'{"recheck": {"users": [7]}}'}
DISCONNECT = {b"control": b'{"disconnect": {"users": ["8"]}}'}
UNREADABLE = {b"control": b'{"recheck": []}'}
ALL = [GUIDE, NAMED, WITHIN, BROKEN, RECHECK, DISCONNECT, UNREADABLE]


def passing(wanted: Filter) -> list[dict[bytes, bytes]]:
    """Return those of all entries that pass."""
    return [fields for fields in ALL if wanted.admits("5-0", fields)]


def test_no_filter() -> None:
    """Without a filter everything passes, what can't be read too."""
    assert passing(Filter()) == ALL


@pytest.mark.parametrize(("key", "entries"), [("3", [GUIDE, NAMED]), ("4", [WITHIN]), ("5", [])])
def test_content_type(key: str, entries: list[dict[bytes, bytes]]) -> None:
    """A content type stands in the event, or anywhere in the rule."""
    assert passing(Filter(content_types=frozenset({key}))) == entries


@pytest.mark.parametrize(
    ("key", "entries"), [("7", [NAMED, WITHIN, RECHECK]), ("8", [NAMED, DISCONNECT]), ("9", [])]
)
def test_user(key: str, entries: list[dict[bytes, bytes]]) -> None:
    """A user is named by the rule, or by an order to the daemons."""
    assert passing(Filter(users=frozenset({key}))) == entries


def test_both() -> None:
    """What passes two filters satisfies both, one key of each being enough."""
    wanted = Filter(content_types=frozenset({"3", "5"}), users=frozenset({"7", "9"}))
    assert passing(wanted) == [NAMED]


def test_channel() -> None:
    """Messages of the channel are filtered alike, and are never orders."""
    wanted = Filter(content_types=frozenset({"3"}))
    assert wanted.admits(None, GUIDE)
    assert not Filter(users=frozenset({"7"})).admits(None, RECHECK)
