"""From an entry of the bus to a record of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from notifyd.core.block import Record
from notifyd.core.events import MEMO_RULE_BYTES, Control, Rejected, parse_entry
from notifyd.core.positions import parse_position
from notifyd.core.protocol import text_frame

if TYPE_CHECKING:
    from notifyd.core.batch import RawEntry
    from notifyd.core.events import Event

_PER_BYTE: Final = 8
"""Bytes in memory for each byte of a rule with a long list of keys, about."""


def to_record(entry: RawEntry, parsed: Event | Control | None = None) -> Record:
    """Return the record of an entry of the stream, `parsed` if that has been done already.

    One that no client gets, a control entry or a bad one, has a position and nothing else.
    """
    id_, fields = entry
    assert id_ is not None, "what came by Pub/Sub has no place in the history"
    position = parse_position(id_)
    if parsed is None:
        try:
            parsed = parse_entry(fields, id_)
        except Rejected:
            return Record(position)
    if isinstance(parsed, Control):
        return Record(position)
    to = len(fields.get(b"to", b""))
    extra = to * _PER_BYTE if to > MEMO_RULE_BYTES else 0
    return Record(position, text_frame(parsed.text), parsed.rule, extra)
