from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import traceback
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core import events
from notifyd.core.events import (
    MAX_EVENT_BYTES,
    MAX_RULE_DEPTH,
    MEMO_RULE_BYTES,
    Control,
    Event,
    Rejected,
    Rejection,
    Rule,
    encode_event,
    encode_rule,
    parse_entry,
    parse_rule,
)

ID = "1763797912345-0"
EVERYONE = b'{"everyone": true}'

# Any Unicode text but lone surrogates, which are no text.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)
objects = st.dictionaries(texts.filter(lambda key: key not in {"id", "notifyd"}), values)
names = st.frozensets(texts, max_size=3)
permissions = st.frozensets(st.sampled_from(["app.view_a", "app.add_b", "shop.x y.z"]))


def rules(depth: int = 3) -> st.SearchStrategy[Rule]:
    """Rules with at least one key, nesting at most ``depth`` deep."""
    parts = st.lists(rules(depth - 1), max_size=2).map(tuple) if depth > 1 else st.just(())
    rule = st.builds(
        Rule,
        users=names,
        groups=names,
        permissions=permissions,
        content_types=names,
        everyone=st.booleans(),
        all=parts,
    )
    return rule.filter(lambda rule: rule != Rule())


def event(payload: bytes, id: str | None = ID, to: bytes | None = EVERYONE) -> Event:  # noqa: A002 - As in parse_entry.
    """Parse an entry that must be an event."""
    fields = {b"event": payload} if to is None else {b"event": payload, b"to": to}
    entry = parse_entry(fields, id)
    assert isinstance(entry, Event)
    return entry


def nested(depth: int) -> list[Any]:
    """Make a list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def rejection(call: Any, *arguments: Any) -> Rejected:
    """Return the Rejected that the call must raise."""
    with pytest.raises(Rejected) as caught:
        call(*arguments)
    return caught.value


# The text of an event.


def test_the_id_is_put_after_the_first_brace() -> None:
    """An event is its JSON with the stream's id put after the first brace."""
    assert event(b'{"model": "x"}').text == b'{"id": "1763797912345-0", "model": "x"}'


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"{}", b'{"id": "1-0"}'),
        (b"{ }", b'{"id": "1-0" }'),
        (b" \t\r\n{\n}\n", b' \t\r\n{"id": "1-0"\n}\n'),
        (b' {"a":{}}', b' {"id": "1-0", "a":{}}'),
    ],
)
def test_an_empty_object_gets_no_comma(payload: bytes, text: bytes) -> None:
    """The empty object becomes {"id": "..."}, and white space stays where it was."""
    assert event(payload, "1-0").text == text
    assert json.loads(text)["id"] == "1-0"


def test_a_pubsub_event_is_verbatim() -> None:
    """An event that came by Pub/Sub has no id and is sent as it was published."""
    payload = b' { "content_type_id" :12}'
    assert event(payload, None, None) == Event(None, payload, Rule(content_types=frozenset({"12"})))


@given(objects, st.sampled_from([None, 1]), st.booleans(), texts)
def test_the_text_parses_to_the_payload_and_the_id(
    published: dict[str, Any],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - Hypothesis gives arguments by position.
    id: str,  # noqa: A002 - As in parse_entry.
) -> None:
    """Whatever the event and its spelling, the browser gets its members and the id, verbatim."""
    payload = json.dumps(published, indent=indent, ensure_ascii=ascii_only).encode()
    text = event(payload, id).text
    assert json.loads(text) == published | {"id": id}
    member = b'"id": ' + msgspec.json.encode(id) + (b", " if published else b"")
    assert text.replace(member, b"", 1) == payload


# What is no event.


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"\x00",
        b"{",
        b"{}x",
        b"{} {}",
        b'{"a": 1,}',
        b"{'a': 1}",
        b"{1: 2}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": tru}',
        b'{"a": "\x01"}',
        b'{"a": 01}',
        b"\xef\xbb\xbf{}",
        b"\xc2\xa0{}",
        b"\x0c{}",
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00"}',
        b'{"a": "\\ud800\\u0041"}',
        b'{"\\udfff": 1}',
        b'{"a": 1' + b"0" * 5_000 + b"}",
        b'{"a": 1e999}',
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_not_json_is_rejected(payload: bytes) -> None:
    """An event is valid JSON, all of it: no NaN, no lone surrogate, no endless nesting."""
    assert rejection(event, payload).reason is Rejection.NOT_JSON


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b'{"\xff": 1}',
        b'{"skipped": {"deep": ["\xc3\x28"]}}',
        b'{"cut": "\xe2\x82"}',
        b'{"surrogate": "\xed\xa0\x80"}',
        b'{"overlong": "\xc0\xaf"}',
        b'{"beyond": "\xf4\x90\x80\x80"}',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_not_utf8_is_rejected(payload: bytes) -> None:
    """An event is valid UTF-8 everywhere, not only in the fields the daemon reads."""
    assert rejection(event, payload).reason is Rejection.NOT_UTF8


@pytest.mark.parametrize("payload", [b"[]", b'[{"a": 1}]', b'"{}"', b"1", b"null", b"true"])
def test_what_is_not_an_object_is_rejected(payload: bytes) -> None:
    """An event is one JSON object."""
    assert rejection(event, payload).reason is Rejection.NOT_OBJECT


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id": 1}',
        b'{"id": null}',
        b'{"notifyd": "closing"}',
        b'{"\\u0069d": 1}',
        b'{"\\u006e\\u006ftifyd": 1}',
        b'{"a": 1, "id": 2, "id": 3}',
    ],
)
def test_reserved_keys_are_rejected(payload: bytes) -> None:
    """Top-level id and notifyd are refused however they are spelled, by Pub/Sub too."""
    assert rejection(event, payload).reason is Rejection.RESERVED_KEY
    assert rejection(event, payload, None).reason is Rejection.RESERVED_KEY


@pytest.mark.parametrize("payload", [b'{"a": {"id": 1}}', b'{"ID": 1}', b'{"a": "notifyd"}'])
def test_reserved_keys_are_free_elsewhere(payload: bytes) -> None:
    """Only the top level's keys are reserved."""
    assert event(payload, None).text == payload


def test_an_event_has_at_most_64_kib() -> None:
    """An event has at most 65,536 bytes, the id not counted."""
    largest = b'{"a": "' + b"x" * (MAX_EVENT_BYTES - 9) + b'"}'
    assert len(event(largest).text) > MAX_EVENT_BYTES
    assert rejection(event, largest + b" ").reason is Rejection.TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "to", "reason"),
    [
        (b"\xff" * (MAX_EVENT_BYTES + 1), b"", Rejection.TOO_LARGE),
        (b'{"id": "\xff"', b"", Rejection.NOT_UTF8),
        (b'{"id": ', b"", Rejection.NOT_JSON),
        (b"[]", b"", Rejection.NOT_OBJECT),
        (b'{"id": 1}', b"", Rejection.RESERVED_KEY),
        (b'{"content_type_id": 1}', b"", Rejection.BAD_AUDIENCE),
    ],
)
def test_the_first_fault_is_named(payload: bytes, to: bytes, reason: Rejection) -> None:
    """Size, UTF-8, JSON, object, reserved keys and audience are judged in this order."""
    assert rejection(event, payload, ID, to).reason is reason


# Whom it is for.


def test_the_content_type_decides_without_a_rule() -> None:
    """Without a rule the event's content_type_id decides."""
    assert event(b'{"content_type_id": 7}', to=None).rule == Rule(content_types=frozenset({"7"}))


def test_the_rule_overrides_the_content_type() -> None:
    """With a rule the event's content_type_id is like any other of its keys."""
    assert event(b'{"content_type_id": "x"}', to=EVERYONE).rule == Rule(everyone=True)


def test_the_last_content_type_counts() -> None:
    """Of a repeated content_type_id the last one counts, as for the guide and the browser."""
    payload = b'{"content_type_id": 1, "content_type_id": 2}'
    assert event(payload, to=None).rule == Rule(content_types=frozenset({"2"}))


@pytest.mark.parametrize("payload", [b"{}", b'{"a": 1}', b'{"content_type_id": null}'])
def test_an_event_for_nobody_is_rejected(payload: bytes) -> None:
    """An event with neither a rule nor a content type has no audience."""
    assert rejection(event, payload, ID, None).reason is Rejection.NO_AUDIENCE


@pytest.mark.parametrize("value", [b"true", b"1.0", b"1e2", b'"1"', b"[1]", b"{}"])
def test_a_content_type_is_an_integer(value: bytes) -> None:
    """A content_type_id that is no integer is a bad audience; true is no integer."""
    # 1 is in the memo, and equal to True and 1.0.
    event(b'{"content_type_id": 1}', to=None)
    payload = b'{"content_type_id": ' + value + b"}"
    assert rejection(event, payload, ID, None).reason is Rejection.BAD_AUDIENCE


@pytest.mark.parametrize("number", [0, -1, 2**64, 10**4_000])
def test_a_content_type_may_be_any_integer(number: int) -> None:
    """A content type that can't exist has nobody who may see it, and does no harm."""
    rule = event(b'{"content_type_id": %d}' % number, to=None).rule
    assert rule == Rule(content_types=frozenset({str(number)}))


# Entries.


def test_a_control_goes_before_an_event() -> None:
    """An entry with a control field is a control message, whatever else it holds."""
    fields = {b"control": b'{"recheck": {"all": true}}', b"event": b"{}", b"to": EVERYONE}
    assert parse_entry(fields, ID) == Control(ID, {"recheck": {"all": True}})


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (b"", Rejection.NOT_JSON),
        (b"[]", Rejection.NOT_OBJECT),
        (b'"\xff"', Rejection.NOT_UTF8),
        (b"[" * 60_000, Rejection.NOT_JSON),
    ],
)
def test_a_control_is_an_object(control: bytes, reason: Rejection) -> None:
    """A control message is one JSON object."""
    assert rejection(parse_entry, {b"control": control}, ID).reason is reason


def test_pubsub_carries_no_control() -> None:
    """Control messages come by the stream alone: without an id the field is unknown."""
    fields = {b"control": b"{}", b"event": b'{"content_type_id": 1}'}
    assert isinstance(parse_entry(fields, None), Event)
    assert rejection(parse_entry, {b"control": b"{}"}, None).reason is Rejection.NOT_JSON


def test_unknown_fields_are_ignored() -> None:
    """Unknown fields of an entry are ignored, and an entry with nothing else is no event."""
    fields = {b"event": b"{}", b"to": EVERYONE, b"traceparent": b"00", b"\xff": b"\xff"}
    assert parse_entry(fields, "1-0") == Event("1-0", b'{"id": "1-0"}', Rule(everyone=True))
    assert rejection(parse_entry, {b"Event": b"{}"}, ID).reason is Rejection.NOT_JSON
    assert rejection(parse_entry, {}, ID).reason is Rejection.NOT_JSON


# Rules.


def test_every_key_of_a_rule() -> None:
    """A rule names users, groups, permissions, content types or everyone; keys become text."""
    data = b"""{"users": [1, "1", "a-b", -2], "groups": ["3", 3], "content_types": [4],
        "permissions": ["app.view_x", "app.do.it now"], "everyone": true}"""
    assert parse_rule(data) == Rule(
        users=frozenset({"1", "a-b", "-2"}),
        groups=frozenset({"3"}),
        content_types=frozenset({"4"}),
        permissions=frozenset({"app.view_x", "app.do.it now"}),
        everyone=True,
    )


def test_rules_nest_with_all() -> None:
    """{"all": [rule, ...]} requires each of its rules, which may be such rules themselves."""
    rule = parse_rule(b'{"all": [{"users": [1]}, {"all": [{"everyone": true}]}], "groups": [2]}')
    inner = (Rule(users=frozenset({"1"})), Rule(all=(Rule(everyone=True),)))
    assert rule == Rule(groups=frozenset({"2"}), all=inner)


BAD_ITEMS = [b"true", b"false", b"null", b"1.0", b"1e2", b"[]", b"[1]", b"{}", b"NaN"]
BAD_LISTS = [b"null", b"[]", b"1", b'"1"', b"true", b"false", b"{}", b'{"1": 1}']
BAD_LISTS += [b"[1, " + item + b"]" for item in [*BAD_ITEMS, b'"\\ud800"', b"9" * 5_000]]
BAD_RULES = [
    *[b'{"%s": %s}' % (key, items) for key in (b"users", b"groups") for items in BAD_LISTS],
    *[b'{"content_types": %s}' % items for items in BAD_LISTS],
    *[b'{"permissions": ["app.view_x", %s]}' % item for item in [*BAD_ITEMS, b"1"]],
    *[b'{"permissions": ["%s"]}' % name for name in (b"", b"x", b"app.", b".x", b"a b.x", b"1.x")],
    *[b'{"permissions": %s}' % items for items in BAD_LISTS],
    *[b'{"everyone": %s}' % v for v in (b"false", b"null", b"1", b'"true"', b"[]", b"[true]")],
    *[b'{"all": [{"users": [1]}, %s]}' % item for item in (b"{}", b"null", b"1", b"[]", b"true")],
    *[b'{"all": %s}' % items for items in (b"[]", b"{}", b'{"users": [1]}', b"null", b"true")],
    *[b"", b"{}", b" {} ", b"[]", b"null", b"false", b"true", b"1", b'"everyone"', b"\xff", b"{"],
    *[b"\xef\xbb\xbf" + EVERYONE, EVERYONE + b"x", EVERYONE.decode().encode("utf-16")],
    *[b'{"user": [1]}', b'{"users": [1], "x": [1]}', b'{"Users": [1]}', b'{"": [1]}'],
    *[b'{"users": [1], "users": [2]}', b'{"everyone": true, "\\u0065veryone": true}'],
    *[b'{"users": ["\xff"]}', b'{"users": ["\xed\xa0\x80"]}', b'{"all": ' + b"[" * 60_000],
    b'{"all": [' * 60_000 + EVERYONE + b"]}" * 60_000,
]


@pytest.mark.parametrize("to", BAD_RULES, ids=lambda to: repr(to[:40]))
def test_a_rule_is_rejected_rather_than_widened(to: bytes) -> None:
    """An unknown key, a wrong type, an empty rule or list, null or false is rejected."""
    assert rejection(event, b'{"content_type_id": 1}', ID, to).reason is Rejection.BAD_AUDIENCE


def test_the_nesting_of_rules_is_bounded() -> None:
    """Rules nest at most eight deep."""
    inner = MAX_RULE_DEPTH - 1
    deepest = b'{"all": [' * inner + EVERYONE + b"]}" * inner
    assert parse_rule(deepest).all
    assert rejection(parse_rule, b'{"all": [' + deepest + b"]}").reason is Rejection.BAD_AUDIENCE


def test_rules_are_memoised_by_their_bytes() -> None:
    """The same bytes are read once, unless they are long."""
    assert parse_rule(b'{"users": [1, 2]}') is parse_rule(b'{"users": [1, 2]}')
    long = b'{"users": ["' + b"x" * MEMO_RULE_BYTES + b'"]}'
    assert parse_rule(long) == parse_rule(long)
    assert parse_rule(long) is not parse_rule(long)


def test_the_memo_of_rules_is_bounded() -> None:
    """However many rules are published, the memory they take is bounded."""
    for number in range(2 * events.MEMO_RULES):
        event(b'{"content_type_id": %d}' % number, to=None)
        parse_rule(b'{"users": [%d]}' % number)
    assert events._parse_short_rule.cache_info().currsize == events.MEMO_RULES
    assert events._visible_with.cache_info().currsize == events.MEMO_RULES


@given(rules())
def test_a_rule_survives_its_journey(rule: Rule) -> None:
    """A rule that was encoded is read as an equal rule, whose hash is equal too."""
    parsed = parse_rule(encode_rule(rule))
    assert parsed == rule
    assert hash(parsed) == hash(rule)


@given(st.lists(texts, unique=True, min_size=1), st.randoms())
def test_equal_rules_are_written_alike(users: list[str], random: Any) -> None:
    """Equal rules have the same JSON, so that the daemon's memo knows them."""
    shuffled = random.sample(users, len(users))
    assert encode_rule(Rule(users=frozenset(users))) == encode_rule(
        Rule(users=frozenset(shuffled), groups=frozenset(""))
    )


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(all=(Rule(),)),
        Rule(users=frozenset({1})),  # type: ignore[arg-type]
        Rule(users=frozenset({1, "1"})),  # type: ignore[arg-type]
        Rule(users=frozenset({"\ud800"})),
        Rule(permissions=frozenset({"view_x"})),
        functools.reduce(lambda rule, _: Rule(all=(rule,)), range(8), Rule(everyone=True)),
        functools.reduce(lambda rule, _: Rule(all=(rule,)), range(5_000), Rule(everyone=True)),
    ],
    ids=range(8),
)
def test_a_rule_that_no_daemon_accepts_is_not_written(rule: Rule) -> None:
    """Publisher and daemon refuse the same rules."""
    assert rejection(encode_rule, rule).reason is Rejection.BAD_AUDIENCE


# Publishing.


def test_events_are_written_compactly() -> None:
    """A publisher's event is compact JSON in UTF-8, whatever kind of mapping it is."""
    published = MappingProxyType({"a": [1, None], "b": MappingProxyType({"é": "ü"})})
    assert encode_event(published) == '{"a":[1,null],"b":{"é":"ü"}}'.encode()


@pytest.mark.parametrize(
    ("published", "reason"),
    [
        ({"a": float("nan")}, Rejection.NOT_JSON),
        ({"a": [float("-inf")]}, Rejection.NOT_JSON),
        ({"a": dt.date(2026, 11, 23)}, Rejection.NOT_JSON),
        ({"a": {1, 2}}, Rejection.NOT_JSON),
        ({("a",): 1}, Rejection.NOT_JSON),
        ({"a": 10**5_000}, Rejection.NOT_JSON),
        ({"a": "\ud800"}, Rejection.NOT_UTF8),
        ([{"a": 1}], Rejection.NOT_OBJECT),
        ({"id": 1}, Rejection.RESERVED_KEY),
        ({"notifyd": None}, Rejection.RESERVED_KEY),
        ({"a": "ü" * 32_768}, Rejection.TOO_LARGE),
        ({"a": nested(5_000)}, Rejection.NOT_JSON),
    ],
    ids=range(12),
)
def test_publishers_are_judged_like_the_daemon(published: Any, reason: Rejection) -> None:
    """What the daemon would refuse is refused before it is published."""
    assert rejection(encode_event, published).reason is reason


def test_a_circle_is_no_event() -> None:
    """An event that contains itself can't be written."""
    circle: dict[str, Any] = {}
    circle["a"] = circle
    assert rejection(encode_event, circle).reason is Rejection.NOT_JSON


@given(objects)
def test_what_was_encoded_is_accepted(published: dict[str, Any]) -> None:
    """An event that a publisher could write is one that a daemon relays."""
    payload = encode_event(published)
    assert event(payload, None).text == payload
    assert json.loads(payload) == published


# Whatever comes.


@given(
    st.dictionaries(
        st.sampled_from([b"event", b"to", b"control"]), st.binary() | texts.map(str.encode)
    )
)
def test_nothing_but_rejected_is_raised(fields: dict[bytes, bytes]) -> None:
    """Whatever bytes come by the bus, the entry is relayed or rejected."""
    for id_ in (ID, None):
        with contextlib.suppress(Rejected):
            parse_entry(fields, id_)


JSON_PIECES = ['"', "{", "}", "[", "]", ":", ",", "1", "-", "e9", "true", "null", " ", "\\u"]
JSON_PIECES += ['"users"', '"all"', '"everyone"', '"id"', "d800", "é"]


@given(st.lists(st.sampled_from(JSON_PIECES)).map("".join))
def test_nearly_json_is_judged_too(text: str) -> None:
    """What is accepted as an event is JSON to others as well."""
    try:
        sent = event(text.encode()).text
    except Rejected:
        return
    assert json.loads(sent)["id"] == ID


@pytest.mark.parametrize(
    ("payload", "to"),
    [
        (b'{"a": "secret"', EVERYONE),
        (b'{"a": "secret", "b": \xff}', EVERYONE),
        (b'{"id": "secret"}', EVERYONE),
        (b'"secret"', EVERYONE),
        (b'{"content_type_id": "secret"}', None),
        (b'{"a": "secret"}', None),
        (b"{}", b'{"secret": [1]}'),
        (b"{}", b'{"permissions": ["secret"]}'),
        (b"{}", b'{"users": ["secret", "secret'),
    ],
)
def test_an_error_tells_nothing_of_the_event(payload: bytes, to: bytes | None) -> None:
    """An error's text says what is wrong without the payload, and so does its traceback."""
    error = rejection(event, payload, ID, to)
    assert str(error)
    assert "secret" not in repr(error)
    trace = traceback.TracebackException.from_exception(error, capture_locals=False)
    assert "secret" not in "".join(line for line in trace.format_exception_only())
    assert error.__suppress_context__ or error.__context__ is None


def test_an_error_says_where() -> None:
    """The text of a rejection helps to find the fault."""
    assert str(rejection(event, b'{"a": NaN}')) == "not valid JSON (byte 6)"
    assert str(rejection(event, b'{"a": 1e999}')) == "not valid JSON"
    assert str(rejection(event, b'{"a": "\xff"}')) == "not UTF-8 at byte 7"


def test_values_are_frozen() -> None:
    """What was parsed is shared by all clients, so nobody can change it."""
    for value, name in ((event(b"{}"), "text"), (Control(ID, {}), "body"), (Rule(), "all")):
        assert not hasattr(value, "__dict__")
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_the_reasons_are_the_labels_of_the_metric() -> None:
    """events_rejected_total has exactly these values of its label."""
    assert " ".join(Rejection) == (
        "not_json not_utf8 not_object reserved_key too_large bad_audience no_audience bad_control"
    )
