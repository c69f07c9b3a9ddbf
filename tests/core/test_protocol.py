from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

from notifyd.core.protocol import (
    PING_FRAME,
    BadHello,
    CloseCode,
    Hello,
    Reconnect,
    closing_frame,
    parse_ack,
    parse_hello,
    ping_frame,
    resync_frame,
    size_of,
    text_frame,
    ticket_frame,
    welcome_frame,
)

# Of letters that no other word here begins with, so that a text that shows it is found out.
SECRET = "qzQZxjXJ-7193"

# In a fresh clone the first text that is drawn makes Hypothesis write its table of Unicode, which
# takes seconds and is not the test's fault.
patiently = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some),
    max_leaves=8,
)


def read(data: bytes) -> list[Frame]:
    """Read frames as a browser does: unmasked, and to the last byte."""
    client = Protocol(Side.CLIENT, max_size=None)
    client.receive_data(data)
    client.receive_eof()
    assert str(client.parser_exc) == "unexpected end of stream"
    frames = client.events_received()
    assert all(isinstance(frame, Frame) for frame in frames)
    return [frame for frame in frames if isinstance(frame, Frame)]


def message(data: bytes) -> dict[str, Any]:
    """Read one control frame."""
    (frame,) = read(data)
    assert frame.opcode is Opcode.TEXT
    content = json.loads(bytes(frame.data))
    assert isinstance(content, dict)
    return content


def heard(text: str) -> Hello | str:
    """Return the hello that a text is, or what is said of a bad one."""
    try:
        return parse_hello(text)
    except BadHello as error:
        return str(error)


@pytest.mark.parametrize("code", CloseCode)
def test_a_code_and_what_belongs_to_it(code: CloseCode) -> None:
    """Each code is a number that carries a reason, a rule for reconnecting and a meaning."""
    assert [other for other in CloseCode if other == int(code)] == [code]
    assert isinstance(code.reconnect, Reconnect)
    assert code.meaning.endswith(".")
    # RFC 6455 section 5.5: 125 bytes for a control frame, two of them for the code.
    assert len(code.reason.encode()) <= 123


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        (Reconnect.NO, {1000, 1001, 1002, 1003, 1007, 1009, 4400, 4403}),
        (Reconnect.YES, {1005, 1006, 1012, 4408, 4420}),
        (Reconnect.LATER, {1011, 1013, 4429}),
        (Reconnect.NEW_TOKEN, {4401, 4410}),
    ],
)
def test_what_a_client_does(rule: Reconnect, codes: set[int]) -> None:
    """A code says whether a client reconnects, at once, later or with a new token, or stops."""
    assert {int(code) for code in CloseCode if code.reconnect is rule} == codes


@pytest.mark.parametrize("code", set(CloseCode) - {CloseCode.NO_STATUS, CloseCode.ABNORMAL})
def test_codes_that_can_be_sent(code: CloseCode) -> None:
    """All codes but 1005 and 1006 may stand in a Close frame (RFC 6455 section 7.4.1)."""
    assert Close.parse(Close(code, code.reason).serialize()) == Close(code, code.reason)


def test_a_token_is_bare() -> None:
    """Any text that does not begin with `{` is a token: the plain guide's client sends just it."""
    assert parse_hello("abc:def") == Hello(token="abc:def", bare=True)
    assert parse_hello(" abc\r\n") == Hello(token="abc", bare=True)
    assert parse_hello("[1]") == Hello(token="[1]", bare=True)


def test_a_hello_is_an_object() -> None:
    """A text that begins with `{` is a hello, with a token or a ticket."""
    assert parse_hello('{"token": "abc"}') == Hello(token="abc")
    assert parse_hello('\n {"ticket": "t"} \n') == Hello(ticket="t")
    assert not parse_hello('{"token": "abc"}').bare


def test_a_hello_may_say_where_it_was() -> None:
    """A hello may name the last event that the client has, and the history it belongs to."""
    hello = parse_hello('{"ticket": "t", "since": "1-0", "epoch": "e"}')
    assert (hello.since, hello.epoch) == ("1-0", "e")
    assert parse_hello('{"token": "t", "since": "no id at all"}').since == "no id at all"
    assert parse_hello('{"token": "t"}').since is None


def test_unknown_keys_are_ignored() -> None:
    """Both sides ignore keys that they don't know."""
    assert parse_hello('{"notifyd": 2, "token": "t", "x": {"token": 5}}') == Hello(token="t")


@pytest.mark.parametrize(
    "text",
    [
        '{"token": "%s"',
        '{"token": "%s",}',
        '{"token": "%s"} {}',
        "{'token': '%s'}",
        "{%s}",
        '{"token": "%s\x00"}',
        '{"token": "%s\\ud800"}',
        '{"token": "%s", "x": NaN}',
        '{"token": "%s", "x": ' + 5_000 * "[",
        '{"token": "%s", "since": 1e999}',
    ],
)
def test_a_hello_that_is_no_json(text: str) -> None:
    """What begins like a hello and is not JSON is a bad hello; what is said shows none of it."""
    with pytest.raises(BadHello) as caught:
        parse_hello(text.replace("%s", SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "a hello has either a token or a ticket"),
        ('{"since": "1-0"}', "a hello has either a token or a ticket"),
        ('{"token": "%s", "ticket": "%s"}', "a hello has either a token or a ticket"),
        ('{"token": ["%s"]}', r"\$\.token"),
        ('{"token": {"%s": 1}}', r"\$\.token"),
        ('{"ticket": 5, "token": "%s"}', r"\$\.ticket"),
        ('{"token": "%s", "ticket": null}', r"\$\.ticket"),
        ('{"token": "%s", "since": 1763797912345}', r"\$\.since"),
        ('{"token": "%s", "since": null}', r"\$\.since"),
        ('{"token": "%s", "epoch": true}', r"\$\.epoch"),
    ],
)
def test_a_hello_of_the_wrong_shape(text: str, fault: str) -> None:
    """A key that is not a string is a bad hello, null included; the text says which key."""
    with pytest.raises(BadHello, match=fault) as caught:
        parse_hello(text.replace("%s", SECRET))
    assert SECRET not in str(caught.value)


@patiently
@given(st.dictionaries(st.sampled_from(["token", "ticket", "since", "epoch", "x"]), values))
def test_whatever_a_hello_holds(content: dict[str, Any]) -> None:
    """Any object is a hello or a bad one, and of a bad one no value is shown."""
    hello = heard(json.dumps({**content, "y": SECRET}))
    if isinstance(hello, str):
        assert SECRET not in hello
    else:
        assert (hello.token is None) != (hello.ticket is None)
        assert hello.since == content.get("since")


@patiently
@given(st.text())
def test_whatever_comes_first(text: str) -> None:
    """Any text is a token, a hello, or a bad hello; and an acknowledgement or none."""
    hello = heard(text)
    is_bare = isinstance(hello, Hello) and hello.bare
    assert is_bare is not text.lstrip().startswith("{")
    assert parse_ack(text) is None


def test_an_acknowledgement() -> None:
    """`{"notifyd": "ack", "id": "..."}` is read, whatever else it holds."""
    assert parse_ack('{"notifyd": "ack", "id": "1-0"}') == "1-0"
    assert parse_ack(' {"x": [null], "id": "", "notifyd": "ack"} ') == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ack",
        '"ack"',
        '["ack", "1-0"]',
        "{}",
        '{"id": "1-0"}',
        '{"notifyd": "ack"}',
        '{"notifyd": "ack", "id": null}',
        '{"notifyd": "ack", "id": 5}',
        '{"notifyd": "nack", "id": "1-0"}',
        '{"notifyd": null, "id": "1-0"}',
        '{"notifyd": "ack", "id": "1-0"',
        '{"notifyd": "ack", "id": "1-0", "x": ' + 5_000 * "[",
    ],
)
def test_no_acknowledgement(text: str) -> None:
    """Anything else is no acknowledgement, an event sent back included."""
    assert parse_ack(text) is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_frame_of_any_length(size: int) -> None:
    """A payload is one unfragmented text frame, however many bytes its length takes."""
    assert read(text_frame(b"x" * size)) == [Frame(Opcode.TEXT, b"x" * size)]


@patiently
@given(st.lists(st.text()))
def test_frames_can_be_joined(texts: list[str]) -> None:
    """Frames joined into one write are read as the same messages, in order."""
    joined = b"".join(text_frame(text.encode()) for text in texts)
    assert [bytes(frame.data).decode() for frame in read(joined)] == texts


def test_the_protocols_ping() -> None:
    """The ping that every client gets is the protocol's, without a payload."""
    assert read(PING_FRAME) == [Frame(Opcode.PING, b"")]


@pytest.mark.parametrize("recovered", [True, False, None])
def test_welcome(recovered: bool | None) -> None:  # noqa: FBT001 - one of its three values
    """The welcome has a ticket, the history, the position, whether all is there, and the ping."""
    frame = welcome_frame(
        ticket="t",
        ticket_ttl=900.0,
        epoch="e",
        last_id="1-0",
        recovered=recovered,
        ping=25.0,
        ack=0.01,
    )
    assert message(frame) == {
        "notifyd": "welcome",
        "ticket": "t",
        "ticket_ttl": 900,
        "epoch": "e",
        "last_id": "1-0",
        "recovered": recovered,
        "ping": 25,
        "ack": 0.01,
    }


def test_welcome_before_the_bus_was_reached() -> None:
    """Before Redis was reached there is neither a history nor a position, nor a ticket for it."""
    frame = welcome_frame(
        ticket=None, ticket_ttl=None, epoch=None, last_id=None, recovered=None, ping=25.0, ack=0.0
    )
    welcome = message(frame)
    assert {key for key, value in welcome.items() if value is None} == {
        *("ticket", "ticket_ttl", "epoch", "last_id", "recovered"),
    }


def test_welcome_without_acknowledgements() -> None:
    """Where no event is to be acknowledged, pages are not asked to."""
    frame = welcome_frame(
        ticket=None, ticket_ttl=None, epoch=None, last_id=None, recovered=None, ping=25.0, ack=0.0
    )
    assert "ack" not in message(frame)


def test_a_new_ticket() -> None:
    """A ticket comes with the seconds for which it is good."""
    assert message(ticket_frame("t", 900.0)) == {
        "notifyd": "ticket",
        "ticket": "t",
        "ticket_ttl": 900,
    }


def test_ping() -> None:
    """A page's ping carries the position up to which everything was written."""
    assert message(ping_frame("1-0")) == {"notifyd": "ping", "last_id": "1-0"}
    assert message(ping_frame(None)) == {"notifyd": "ping", "last_id": None}


def test_resync() -> None:
    """A resync says why the page should load its state anew, and from where on events come."""
    assert message(resync_frame('a "gap"', epoch="e", last_id="1-0")) == {
        "notifyd": "resync",
        "reason": 'a "gap"',
        "epoch": "e",
        "last_id": "1-0",
    }
    nowhere = message(resync_frame("none", epoch=None, last_id=None))
    assert (nowhere["epoch"], nowhere["last_id"]) == (None, None)


def test_closing() -> None:
    """The word before a restart says when to come back, in seconds, to the millisecond."""
    assert message(closing_frame(3.20041)) == {"notifyd": "closing", "retry_in": 3.2}


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_the_size_of_a_frame(size: int) -> None:
    """A client's frame is as long as it says: head, masking key and payload."""
    frame = Frame(Opcode.TEXT, b"x" * size)
    assert size_of(frame) == len(frame.serialize(mask=True))
