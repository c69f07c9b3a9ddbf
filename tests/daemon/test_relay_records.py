from __future__ import annotations

import pytest
from neighbours import entry

from notifyd.core.block import Record
from notifyd.core.events import Control, Event, Rule
from notifyd.daemon.relay_records import to_record


def test_event() -> None:
    """An event becomes its position, its frame with the id in it, and its rule."""
    rule = Rule(content_types=frozenset({"7"}))
    frame = b'\x81\x25{"id": "5-0", "content_type_id": 7}  '
    assert to_record(entry(5, '{"content_type_id": 7}  ')) == Record((5, 0), frame, rule)


@pytest.mark.parametrize(
    "fields",
    [
        {b"control": b'{"recheck": {"all": true}}', b"event": b'{"content_type_id": 7}'},
        {b"control": b"Xyzzy"},
        {b"event": b"Xyzzy"},
        {b"event": b'{"content_type_id": 7}', b"to": b"Xyzzy"},
        {},
    ],
)
def test_what_no_client_gets(fields: dict[bytes, bytes]) -> None:
    """A control entry, or a bad one, becomes a position and nothing else."""
    assert to_record(("5-3", fields)) == Record((5, 3))


def test_what_was_parsed_is_not_parsed_again() -> None:
    """What the entry was found to be already is taken as it is."""
    event = Event("5-0", b"{}", Rule(everyone=True))
    assert to_record(entry(5, "Xyzzy"), event) == Record((5, 0), b"\x81\x02{}", event.rule)
    assert to_record(entry(5), Control("5-0", {})) == Record((5, 0))


def test_long_rule() -> None:
    """A rule that is long, and so not shared with other records, counts for the memory it takes."""
    short, long = ('{"users": [%s]}' % ",".join(map(str, range(n))) for n in (10, 1000))  # noqa: UP031 - full of braces
    assert to_record(entry(5, to=short)).extra == 0
    assert to_record(entry(5, to=long)).extra == 8 * len(long)
