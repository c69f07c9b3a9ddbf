"""Attacks by whoever may write to the bus, mostly without meaning to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import CHANNEL, EVENTS, EVERYONE
from waiting import until

if TYPE_CHECKING:
    from hardening.attacks import Attack

NOT_JSON = {
    "nothing": b"",
    "truncated": b'{"a": ',
    "garbage behind it": b'{"a": 1}, {"b": 2}',
    "NUL": b"\0",
    "NUL behind it": b"{}\0",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a line break in a text": b'{"a": "\n"}',
    "JavaScript": b"{a: 1}",
    "Python": b"{'a': None}",
    "a comma too many": b'{"a": 1,}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "a number beyond all": b'{"a": 1e999}',
    "digits without end": b'{"a": ' + b"1" * 60_000 + b"}",
    "a lone surrogate": rb'{"a": "\ud800"}',
    "surrogates in the wrong order": rb'{"a": "\udc00\ud800"}',
    "60,000 brackets": b'{"a": ' + b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep lists": b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
}
BAD_EVENTS = {
    **{f"not_json: {name}": (data, "not_json") for name, data in NOT_JSON.items()},
    "not_utf8: in a field nobody reads": (b'{"a": "\xff"}', "not_utf8"),
    "not_utf8: in a key": (b'{"\xc0\xaf": 1}', "not_utf8"),
    "not_utf8: a surrogate": (b'{"a": "\xed\xa0\x80"}', "not_utf8"),
    "not_utf8: Latin-1": (b'{"a": "caf\xe9"}', "not_utf8"),
    "not_object: a list": (b'[{"a": 1}]', "not_object"),
    "not_object: a text": (b'"{}"', "not_object"),
    "not_object: null": (b"null", "not_object"),
    "reserved_key: id": (b'{"id": "1-1"}', "reserved_key"),
    "reserved_key: a control frame": (b'{"notifyd": "closing", "retry_in": 1e9}', "reserved_key"),
    "reserved_key: id in disguise": (rb'{"\u0069\u0064": 1}', "reserved_key"),
    "reserved_key: notifyd in disguise": (rb'{"\u006eotify\u0064": 1}', "reserved_key"),
    "reserved_key: the second of its name": (b'{"a": 1, "id": 1, "a": 2}', "reserved_key"),
    "too_large: by a byte": (b'{"a":"' + b"x" * 65_529 + b'"}', "too_large"),
    "too_large: 20 MB": (b'{"a":"' + b"x" * 20_000_000 + b'"}', "too_large"),
    "no_audience: none": (b"{}", "no_audience"),
    "no_audience: null": (b'{"content_type_id": null}', "no_audience"),
    "bad_audience: true": (b'{"content_type_id": true}', "bad_audience"),
    "bad_audience: a text": (b'{"content_type_id": "7"}', "bad_audience"),
    "bad_audience: a fraction": (b'{"content_type_id": 7.0}', "bad_audience"),
    "bad_audience: a list": (b'{"content_type_id": [7]}', "bad_audience"),
}


@pytest.mark.parametrize("source", ["stream", "pubsub"])
@pytest.mark.parametrize(("event", "reason"), BAD_EVENTS.values(), ids=BAD_EVENTS)
async def test_bad_event(attack: Attack, event: bytes, reason: str, source: str) -> None:
    """An event that a browser could not read, or that is for nobody, reaches no browser."""
    if source == "stream":
        attack.house.redis.xadd(EVENTS, {"event": event})
    else:
        attack.house.redis.publish(CHANNEL, event)
    await attack.rejected(reason, source)


BAD_RULES = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"users": ["\xff"]}',
    "null": b"null",
    "false": b"false",
    "true": b"true",
    "a list": b'[{"everyone": true}]',
    "empty": b"{}",
    "an empty list": b'{"users": []}',
    "null for a list": b'{"users": null}',
    "a key without a list": b'{"users": 1}',
    "a key of null": b'{"users": [null]}',
    "a key of true": b'{"users": [true]}',
    "a fraction": b'{"groups": [1.0]}',
    "NaN": b'{"groups": [NaN]}',
    "a lone surrogate": rb'{"users": ["\ud800"]}',
    "an unknown key beside a good one": b'{"everyone": true, "except": ["1"]}',
    "everyone false": b'{"everyone": false}',
    "everyone null": b'{"everyone": null}',
    "everyone 1": b'{"everyone": 1}',
    "a permission without its app": b'{"permissions": ["view_article"]}',
    "a permission as a number": b'{"permissions": [1]}',
    "the same key twice": b'{"users": ["1"], "users": ["2"]}',
    "all of nothing": b'{"all": []}',
    "all of an empty rule": b'{"all": [{"everyone": true}, {}]}',
    "all of no list": b'{"all": {"everyone": true}}',
    "deep": b'{"all":[' * 5_000 + EVERYONE.encode() + b"]}" * 5_000,
    "endless digits": b'{"users": [' + b"1" * 50_000 + b"]}",
}


@pytest.mark.parametrize("rule", BAD_RULES.values(), ids=BAD_RULES)
async def test_bad_rule(attack: Attack, rule: bytes) -> None:
    """A rule that is not understood entirely lets nobody see the event."""
    attack.house.redis.xadd(EVENTS, {"event": '{"content_type_id": 1}', "to": rule})
    await attack.rejected("bad_audience", "stream")


async def test_huge_rule(attack: Attack) -> None:
    """A rule that names a hundred thousand users holds nobody up, and those it names get it."""
    users = [*map(str, range(100_000))]
    id_ = attack.house.publish({"to": "many"}, json.dumps({"users": users}))
    assert await attack.witness.event() == {"id": id_, "to": "many"}
    id_ = attack.house.publish({"to": "more"}, json.dumps({"all": [{"users": users[:99]}] * 1_000}))
    assert await attack.witness.event() == {"id": id_, "to": "more"}
    await attack.logged()


async def test_two_thousand_rules(attack: Attack) -> None:
    """Rules of which no two are alike are forgotten in time, and decided rightly all the while."""
    with attack.house.redis.pipeline() as pipe:
        for number in range(2_000):
            to = json.dumps({"groups": [f"nobody's {number}"]})
            pipe.xadd(EVENTS, {"event": "{}", "to": to})
            pipe.xadd(EVENTS, {"event": "{}", "to": json.dumps({"users": [f"nobody {number}"]})})
        pipe.execute()
    await until(lambda: attack.counted("events_total", source="stream") == 4_000)
    await attack.logged()
    assert attack.counted("deliveries_total") == 0


async def test_entry_of_unknown_fields(attack: Attack) -> None:
    """An entry of which we know no field is rejected."""
    attack.house.redis.xadd(EVENTS, {"data": '{"a": 1}', "": ""})
    await attack.rejected("not_json", "stream")


async def test_entry_with_unknown_fields(attack: Attack) -> None:
    """Fields that we don't know are ignored beside those that we do, whatever is in them."""
    known = ["event", "{}", "to", EVERYONE]
    id_ = attack.house.redis.execute_command(  # type: ignore[no-untyped-call] # the library's
        "XADD", EVENTS, "*", b"\xff", b"\xff", *known, "id", "1-1", "EVENT", "["
    )
    assert await attack.witness.event() == {"id": id_}
    await attack.logged()


@pytest.mark.parametrize(
    ("control", "reason"),
    [(b"", "not_json"), (b"{", "not_json"), (b"[]", "not_object"), (b'{"a": "\xff"}', "not_utf8")],
    ids=str,
)
async def test_malformed_control(attack: Attack, control: bytes, reason: str) -> None:
    """A control message that is no JSON object is rejected, an event beside it not looked at."""
    attack.house.redis.xadd(EVENTS, {"control": control, "event": "{}", "to": EVERYONE})
    await attack.rejected(reason, "stream")


@pytest.mark.parametrize(
    ("control", "logged"),
    [
        ({"disconnect": {"users": ["nobody"]}}, []),
        ({"recheck": {"all": True}}, []),
        ({"recheck": {"users": [{}]}, "disconnect": None}, ["event.rejected"]),
        ({"other": [1]}, []),
        ({}, []),
    ],
)
async def test_control(attack: Attack, control: dict[str, object], logged: list[str]) -> None:
    """A control message reaches no browser, and takes events from nobody who may see them."""
    attack.house.redis.xadd(EVENTS, {"control": json.dumps(control)})
    await attack.witness.sees(attack.house)
    await attack.logged(*logged)


async def test_control_by_pubsub(attack: Attack) -> None:
    """What comes by Pub/Sub is an event, even if it looks like a control message."""
    attack.house.redis.publish(CHANNEL, '{"control": {"disconnect": {"users": ["2"]}}}')
    await attack.rejected("no_audience", "pubsub")
