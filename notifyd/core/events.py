"""Events: what Django publishes and the browser receives, and the audience rule they carry.

Publisher and daemon judge by the same functions, because an entry that one of them lets through
and a browser can't read makes every page close, reconnect, and get it again.

Whatever is wrong with an entry is one exception, ``Rejected``. Its text and its cause never show
the payload: it ends in logs, and events are as private as the rows they tell about.
"""

from __future__ import annotations

import enum
import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

# The size of an event is reckoned in bytes of its JSON as published, before the id is added.
MAX_EVENT_BYTES = 65_536

# The publisher's own rules nest once. The bound keeps evaluation far from the recursion limit.
MAX_RULE_DEPTH = 8

# Rules with long lists of users are rarely seen twice: only short ones are remembered.
MEMO_RULES = 1024
MEMO_RULE_BYTES = 512

RESERVED_KEYS = frozenset({"id", "notifyd"})


class Rejection(enum.StrEnum):
    """Why an entry of the bus is not relayed; the label of ``events_rejected_total``."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_OBJECT = "not_object"
    RESERVED_KEY = "reserved_key"
    TOO_LARGE = "too_large"
    BAD_AUDIENCE = "bad_audience"
    NO_AUDIENCE = "no_audience"
    BAD_CONTROL = "bad_control"


class Rejected(ValueError):  # noqa: N818 - It is a verdict on the data, named like its reason.
    """An entry that must not be relayed; the text says what is wrong without quoting it."""

    def __init__(self, reason: Rejection, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Rule(msgspec.Struct, frozen=True, cache_hash=True):
    """Who may see an event: whoever matches any of the keys. A rule without keys matches nobody.

    Keys of the database are compared as text, permissions are "app.codename", and ``all`` matches
    whoever matches each of its rules.
    """

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    content_types: frozenset[str] = frozenset()
    everyone: bool = False
    all: tuple[Rule, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """An event on its way to the browsers.

    ``id`` is the stream's, None for an event that came by Pub/Sub; ``text`` is the JSON that is
    sent, UTF-8: the payload as it was published, with the id put after its first brace.
    """

    id: str | None
    text: bytes
    rule: Rule


class Control(msgspec.Struct, frozen=True):
    """A message from the site to the daemons themselves; no browser gets it."""

    id: str
    body: dict[str, Any]


def _as_dict(value: object) -> dict[Any, Any]:
    """Serve the encoder, which knows no mapping but dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


# msgspec would turn NaN into null and a datetime into a text, behind the publisher's back.
_EVENT_JSON = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_as_dict
)
_JSON = msgspec.json.Decoder()
_POSITION = re.compile(r"\(byte \d+\)")
_NAMES = frozenset({"users", "groups", "permissions", "content_types"})


def parse_entry(
    fields: Mapping[bytes, bytes],
    id: str | None,  # noqa: A002 - The stream's own word; the built-in is not used here.
) -> Event | Control:
    """Judge one entry of the bus. ``id`` is None for a Pub/Sub message, which is never a control.

    Raises Rejected.
    """
    control = fields.get(b"control")
    if control is not None and id is not None:
        return Control(id, _parse_object(control))
    payload = fields.get(b"event")
    if payload is None:
        raise Rejected(Rejection.NOT_JSON, "the entry has no event field")
    event = _parse_event(payload)
    to = fields.get(b"to")
    rule = _content_type_rule(event) if to is None else parse_rule(to)
    if id is None:
        return Event(None, payload, rule)
    # Only white space can precede the brace of a valid object.
    brace = payload.index(b"{") + 1
    comma = b", " if event else b""
    member = b'"id": ' + msgspec.json.encode(id) + comma
    return Event(id, payload[:brace] + member + payload[brace:], rule)


def encode_event(event: Mapping[str, Any]) -> bytes:
    """Return the compact JSON of an event, judged as the daemon will judge it.

    The audience is not looked at: it may come in a rule beside the event. Raises Rejected.
    """
    try:
        payload = _EVENT_JSON.encode(event).encode()
    except UnicodeEncodeError:
        raise Rejected(Rejection.NOT_UTF8, "a text of the event is not valid Unicode") from None
    except (TypeError, ValueError, RecursionError):
        raise Rejected(Rejection.NOT_JSON, "the event can't be written as JSON") from None
    _parse_event(payload)
    return payload


def parse_rule(data: bytes) -> Rule:
    """Read an audience rule. What isn't understood entirely is refused: a rule never widens.

    Raises Rejected with the reason BAD_AUDIENCE.
    """
    return _parse_rule(data) if len(data) > MEMO_RULE_BYTES else _parse_short_rule(data)


def encode_rule(rule: Rule) -> bytes:
    """Return the JSON of a rule, the same for equal rules; ``parse_rule`` reads it back.

    Raises Rejected with the reason BAD_AUDIENCE for a rule that no daemon would accept.
    """
    try:
        data = msgspec.json.encode(_rule_as_dict(rule))
    except (TypeError, ValueError, RecursionError):
        raise _bad_audience("the rule can't be written as JSON") from None
    if parse_rule(data) != rule:
        raise _bad_audience("keys of the database must be given as text")
    return data


def _parse_event(payload: bytes) -> dict[str, Any]:
    """Apply every rule about an event itself."""
    if len(payload) > MAX_EVENT_BYTES:
        size = len(payload)
        raise Rejected(Rejection.TOO_LARGE, f"{size} bytes, at most {MAX_EVENT_BYTES} are allowed")
    event = _parse_object(payload)
    if not RESERVED_KEYS.isdisjoint(event):
        raise Rejected(Rejection.RESERVED_KEY, "the keys id and notifyd are reserved")
    return event


def _parse_object(data: bytes) -> dict[str, Any]:
    """Decode one JSON object, all of it."""
    try:
        # The JSON decoder doesn't tell wrong bytes from lone surrogates: either exception may
        # mean either.
        data.decode()
    except UnicodeDecodeError as error:
        raise Rejected(Rejection.NOT_UTF8, f"not UTF-8 at byte {error.start}") from None
    try:
        value = _JSON.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Of the decoder's own words only the position surely quotes nothing.
        position = _POSITION.search(str(error))
        where = f" {position[0]}" if position else ""
        raise Rejected(Rejection.NOT_JSON, f"not valid JSON{where}") from None
    except RecursionError:
        raise Rejected(Rejection.NOT_JSON, "nested too deeply") from None
    if type(value) is not dict:
        raise Rejected(Rejection.NOT_OBJECT, "valid JSON, but not an object")
    return value


def _content_type_rule(event: Mapping[str, Any]) -> Rule:
    """Return the rule of an event that carries none: the guide's."""
    content_type = event.get("content_type_id")
    if content_type is None:
        raise Rejected(Rejection.NO_AUDIENCE, "neither an audience rule nor a content_type_id")
    # By type and not by isinstance: a bool is an int.
    if type(content_type) is not int:
        raise _bad_audience("content_type_id must be an integer")
    return _visible_with(content_type)


@functools.lru_cache(maxsize=MEMO_RULES)
def _visible_with(content_type: int) -> Rule:
    return Rule(content_types=frozenset({str(content_type)}))


def _parse_rule(data: bytes) -> Rule:
    try:
        return _rule(_RULE_JSON.decode(data.decode()), MAX_RULE_DEPTH)
    except Rejected:
        raise
    except (ValueError, RecursionError):
        # Among them: wrong bytes, bad JSON, lone surrogates, integers of thousands of digits.
        raise _bad_audience("the rule is not valid JSON") from None


_parse_short_rule = functools.lru_cache(maxsize=MEMO_RULES)(_parse_rule)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, refusing what a last-one-wins decoder silently drops."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _bad_audience("a key of the rule occurs twice")
    return members


_RULE_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _rule(tree: object, depth: int) -> Rule:
    """Build a rule that may contain ``depth - 1`` levels of others."""
    if not depth:
        raise _bad_audience(f"rules nest more than {MAX_RULE_DEPTH} deep")
    if type(tree) is not dict or not tree:
        raise _bad_audience("a rule must be an object with at least one key")
    keys: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "everyone" and value is True:
            keys[key] = True
        elif type(value) is not list or not value:
            raise _bad_audience("a key takes a list of at least one item, everyone only true")
        elif key == "all":
            keys[key] = tuple(_rule(item, depth - 1) for item in value)
        elif key in _NAMES:
            name = _permission if key == "permissions" else _primary_key
            keys[key] = frozenset(map(name, value))
        else:
            raise _bad_audience("an unknown key")
    return Rule(**keys)


def _primary_key(value: object) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is str:
        value.encode()  # A lone surrogate raises ValueError: no key of a database has one.
        return value
    raise _bad_audience("a key of the database must be an integer or a text")


def _permission(value: object) -> str:
    name = _primary_key(value)
    app, _, codename = name.partition(".")
    if not codename or not app.isidentifier():
        raise _bad_audience('a permission must be a text like "app.codename"')
    return name


def _rule_as_dict(rule: Rule) -> dict[str, Any]:
    tree: dict[str, Any] = {
        key: sorted(names)
        for key in ("users", "groups", "permissions", "content_types")
        if (names := getattr(rule, key))
    }
    if rule.everyone:
        tree["everyone"] = True
    if rule.all:
        tree["all"] = [_rule_as_dict(part) for part in rule.all]
    return tree


def _bad_audience(text: str) -> Rejected:
    return Rejected(Rejection.BAD_AUDIENCE, text)
