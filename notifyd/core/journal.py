"""Entries of the systemd journal, as bytes.

Sources: the Native Journal Protocol (systemd.io), systemd.journal-fields(7).
"""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "NOTIFYD_"
_MAX_NAME: Final = 64
_UNQUOTED: Final = re.compile(r'[^\s"=]+')


def encode_entry(fields: Mapping[str, str]) -> bytes:
    """Return the entry with these fields, whose names the protocol allows.

    A value with a line break is preceded by its length: nobody can add a field, or an entry, by
    what they make us log.
    """
    return b"".join(_assignment(name, value) for name, value in fields.items())


def _assignment(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def field_name(name: str) -> str:
    """Return the name under which our field `name` can be searched for: NOTIFYD_ and capitals.

    The protocol allows 64 capital letters, digits and underscores.
    """
    return (_PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper()))[:_MAX_NAME]


def sentence(event: str, fields: Mapping[str, Any]) -> str:
    """Return the line for people: the event, then `key=value` for each field that has a value."""
    known = {name: value for name, value in fields.items() if value is not None}
    return " ".join([event, *(f"{name}={_word(value)}" for name, value in known.items())])


def _word(value: object) -> str:
    if isinstance(value, str) and _UNQUOTED.fullmatch(value):
        return value
    # Quoted, so that spaces and line breaks in a value can't pass for fields or lines of ours.
    return json.dumps(value, ensure_ascii=False)


def text(value: object) -> str:
    """Return a field's value as text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
