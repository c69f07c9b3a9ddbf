from __future__ import annotations

import contextlib
import gc
import itertools
import re
import tracemalloc
import weakref
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin
from websockets.uri import parse_uri

from notifyd.core.happenings import (
    Acknowledged,
    Closing,
    Greeted,
    Happening,
    Ignored,
    NotUpgraded,
    NotUpgradedReason,
    Phase,
    Requested,
)
from notifyd.core.protocol import CloseCode, Hello
from notifyd.core.session import Policy, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

OURS = Origin("https://www.example.com")
POLICY = Policy(origins=[None, OURS, re.compile(r"http://localhost(:\d+)?")], max_message=256)

UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Ends:
    """A client and a session, joined in memory: what one end sends the other receives."""

    def __init__(self, policy: Policy = POLICY, origin: Origin | None = None) -> None:
        self.client = ClientProtocol(parse_uri("ws://localhost/live?x=1"), origin=origin)
        self.session = Session(policy)
        self.client.send_request(self.client.connect())

    def up(self, now: float = 0.0) -> list[Happening]:
        """Carry what the client sends to the session, which accepts a request."""
        happenings = []
        for data in self.client.data_to_send():
            if data:
                happenings += receive(self.session, data, now)
            else:
                self.session.receive_eof()
        return happenings

    def down(self) -> list[Response | Frame]:
        """Carry what the session sends to the client, and return what it reads."""
        for data in self.session.data_to_send():
            if data:
                self.client.receive_data(data)
            else:
                self.client.receive_eof()
        events = self.client.events_received()
        return [event for event in events if isinstance(event, Response | Frame)]


def receive(session: Session, data: bytes, now: float = 0.0) -> list[Happening]:
    """Hand bytes to the session as the edge does, which answers a request at once."""
    happenings = session.receive_data(data, now)
    if happenings and isinstance(happenings[0], Requested):
        happenings += session.accept(now)
    return happenings


def masked(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """Return a frame as clients send them; the mask is zero, so that each run is the same."""
    frame = Frame(opcode, data, fin).serialize(mask=False)
    head = {126: 4, 127: 10}.get(frame[1], 2)
    return bytes([frame[0], frame[1] | 0x80]) + frame[2:head] + bytes(4) + frame[head:]


def request(line: str = "GET / HTTP/1.1", headers: dict[str, str | None] | None = None) -> bytes:
    """Return a handshake request, its headers changed or (None) left out."""
    fields = {**UPGRADE, **(headers or {})}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def opened(policy: Policy = POLICY) -> Ends:
    """Return both ends after the handshake."""
    ends = Ends(policy)
    ends.up()
    ends.down()
    return ends


def greeted(policy: Policy = POLICY) -> Ends:
    """Return both ends after the hello."""
    ends = opened(policy)
    assert receive(ends.session, masked(b"token")) == [Greeted(Hello(token="token", bare=True))]
    return ends


def live(policy: Policy = POLICY) -> Ends:
    """Return both ends after the client was let in."""
    ends = greeted(policy)
    ends.session.open(behind=False)
    return ends


def closed(ends: Ends) -> tuple[int, str]:
    """Return the code and the reason that the client is closed with."""
    ends.down()
    assert ends.client.close_rcvd is not None
    assert ends.session.phase is Phase.CLOSING
    assert ends.session.close_code == ends.client.close_rcvd.code
    return ends.client.close_rcvd.code, ends.client.close_rcvd.reason


def status(session: Session) -> int:
    """Return the status of the HTTP response that the session ends its stream with."""
    *response, end = session.data_to_send()
    assert end == b""
    assert session.phase is Phase.CLOSING
    assert not session.upgraded
    return int(b"".join(response).split()[1])


# The opening handshake (RFC 6455 section 4).


def test_handshake() -> None:
    """A request is told, and once it is accepted the client gets 101 and owes a hello."""
    ends = Ends(origin=OURS)
    (requested,) = ends.up()
    assert isinstance(requested, Requested)
    assert (requested.path, requested.headers["Origin"]) == ("/live?x=1", OURS)
    assert (ends.session.phase, ends.session.upgraded) == (Phase.HELLO, True)
    (response,) = ends.down()
    assert isinstance(response, Response)
    assert response.status_code == 101
    assert ends.client.handshake_exc is None


def test_no_compression() -> None:
    """permessage-deflate is refused: frames are the same bytes for all."""
    session = Session(POLICY)
    receive(session, request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"}))
    (response,) = session.data_to_send()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"Extensions" not in response


def test_answered_after_the_handshake() -> None:
    """Frames that come in one packet with the request are answered only behind the 101."""
    session = Session(POLICY)
    data = request() + masked(b"token") + masked(b"?", Opcode.PING)
    (requested,) = session.receive_data(data, 0.0)
    assert isinstance(requested, Requested)
    assert (session.phase, session.data_to_send()) == (Phase.HANDSHAKE, [])
    assert session.accept(0.0) == [Greeted(Hello(token="token", bare=True))]
    response, pong = session.data_to_send()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert pong == Frame(Opcode.PONG, b"?").serialize(mask=False)


def test_frames_before_the_answer_wait() -> None:
    """What comes while the request is being decided upon waits, in its order."""
    session = Session(POLICY)
    session.receive_data(request() + masked(b"tok", fin=False), 0.0)
    assert session.receive_data(masked(b"en", Opcode.CONT), 0.0) == []
    assert session.data_to_send() == []
    assert session.accept(0.0) == [Greeted(Hello(token="token", bare=True))]


PIPELINED = request() + masked(b'{"token": "t"}') + masked(b"?", Opcode.PING)
EXPECTED = [Greeted(Hello(token="t"))]
PONG = Frame(Opcode.PONG, b"?").serialize(mask=False)


def is_whole(chunks: Sequence[bytes]) -> bool:
    """Tell whether the pipelined request is understood in these chunks as it is in one."""
    session = Session(POLICY)
    happenings = [event for chunk in chunks for event in receive(session, chunk)]
    response, pong = session.data_to_send()
    understood = happenings[1:] == EXPECTED and isinstance(happenings[0], Requested)
    return understood and response.startswith(b"HTTP/1.1 101 ") and pong == PONG


def test_every_split() -> None:
    """A handshake with a hello behind it is understood wherever it is cut in two."""
    size = len(PIPELINED)
    assert all(is_whole([PIPELINED[:cut], PIPELINED[cut:]]) for cut in range(size + 1))


def test_byte_by_byte() -> None:
    """A handshake with a hello behind it is understood byte by byte."""
    assert is_whole([bytes([byte]) for byte in PIPELINED])


@given(st.lists(st.integers(0, len(PIPELINED))))
def test_any_split(cuts: list[int]) -> None:
    """A handshake with a hello behind it is understood in any pieces, empty ones included."""
    bounds = [0, *sorted(cuts), len(PIPELINED)]
    assert is_whole([PIPELINED[start:end] for start, end in itertools.pairwise(bounds)])


def test_foreign_origin() -> None:
    """A foreign origin is refused with 403, and told, so that the log can show the line to add."""
    ends = Ends(origin=Origin("https://foreign.example"))
    _, refusal = ends.up()
    assert isinstance(refusal, NotUpgraded)
    assert (refusal.reason, refusal.origin) == (
        NotUpgradedReason.ORIGIN,
        "https://foreign.example",
    )
    assert status(ends.session) == 403


@pytest.mark.parametrize("origin", [None, str(OURS), "http://localhost:8000"])
def test_allowed_origins(origin: str | None) -> None:
    """The site's origins are allowed, and a request without one: it comes from no browser."""
    session = Session(POLICY)
    receive(session, request(headers={"Origin": origin}))
    assert session.upgraded


def test_an_origin_may_be_demanded() -> None:
    """Without None among the origins, a request without an origin is refused."""
    ends = Ends(Policy(origins=[OURS]))
    assert ends.up()[1] == NotUpgraded(NotUpgradedReason.ORIGIN, "missing Origin header")
    assert status(ends.session) == 403


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, "not_websocket"),
        (request(headers={"Upgrade": "h2c"}), 426, "not_websocket"),
        (request(headers={"Connection": "keep-alive"}), 426, "not_websocket"),
        (request("POST / HTTP/1.1"), 405, "not_websocket"),
        (request("HEAD / HTTP/1.1"), 405, "not_websocket"),
        (request("GET / HTTP/1.0"), 505, "malformed"),
        (request(headers={"Connection": ","}), 400, "malformed"),
        (request(headers={"Sec-WebSocket-Key": None}), 400, "malformed"),
        (request(headers={"Sec-WebSocket-Key": "xyz\xff"}), 400, "malformed"),
        (request(headers={"Sec-WebSocket-Key": "c2hvcnQ="}), 400, "malformed"),
        (request(headers={"Sec-WebSocket-Version": "8"}), 400, "malformed"),
        (request(headers={"Origin": "http://localhost\r\nOrigin: null"}), 400, "malformed"),
    ],
    ids=range(12),
)
def test_no_handshake(data: bytes, code: int, reason: str) -> None:
    """A plain GET gets 426, another method 405, a bad handshake 400."""
    session = Session(POLICY)
    _, refusal = receive(session, data + b"and what follows")
    assert isinstance(refusal, NotUpgraded)
    assert (refusal.reason, refusal.origin) == (NotUpgradedReason(reason), None)
    assert status(session) == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET /" + b"x" * 9_000, 414),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 9_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200, 431),
    ],
    ids=["line", "header", "headers"],
)
def test_too_long(data: bytes, code: int) -> None:
    """A request line or a header that is too long ends the handshake before its end has come."""
    session = Session(POLICY)
    (refusal,) = receive(session, data)
    assert isinstance(refusal, NotUpgraded)
    assert refusal.reason is NotUpgradedReason.MALFORMED
    assert status(session) == code


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\n",
        b"GET / HTTP/1.1\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage(data: bytes) -> None:
    """What is not HTTP is not answered; the log learns no byte of it."""
    session = Session(POLICY)
    assert receive(session, data) == [
        NotUpgraded(NotUpgradedReason.MALFORMED, "did not receive a valid HTTP request")
    ]
    assert (session.data_to_send(), session.phase) == ([b""], Phase.CLOSING)


@pytest.mark.parametrize("retry_after", [10, None])
def test_refuse(retry_after: int | None) -> None:
    """Limit reached or draining: 503 with Retry-After before the handshake."""
    session = Session(POLICY)
    session.receive_data(request(), 0.0)
    session.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Try again later.", retry_after=retry_after)
    response, end = session.data_to_send()
    assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert (b"\r\nRetry-After: 10\r\n" in response) is (retry_after is not None)
    assert response.endswith(b"\r\n\r\nTry again later.\n")
    assert (end, session.phase, session.upgraded) == (b"", Phase.CLOSING, False)


def refused(data: bytes) -> Session:
    """Return a session that has answered a request with 503."""
    session = Session(POLICY)
    session.receive_data(data, 0.0)
    session.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "")
    session.data_to_send()
    return session


def rejected(data: bytes) -> Session:
    """Return a session whose handshake has failed."""
    session = Session(POLICY)
    receive(session, data)
    session.data_to_send()
    return session


def abandoned(data: bytes) -> Session:
    """Return a session that was closed while its handshake was unfinished."""
    session = Session(POLICY)
    session.receive_data(data, 0.0)
    assert not session.close(CloseCode.RESTART)
    return session


@pytest.mark.parametrize(
    ("fail", "data"),
    [
        (refused, request()),
        (refused, request() + masked(b"token")),
        (rejected, b"\r\n"),
        (rejected, b"GET / HTTP/1.1\r\n\r\n"),
        (rejected, b"x" * 9_000),
        (abandoned, b"GET / HT"),
        (abandoned, request()),
        (abandoned, request() + masked(b"token")),
    ],
    ids=range(8),
)
def test_after_a_failed_handshake(fail: Callable[[bytes], Session], data: bytes) -> None:
    """After a failed handshake nothing is read and nothing is said, whatever still comes."""
    session = fail(data)
    frames = masked(b"?", Opcode.PING) + masked(b"token") + masked(b"", Opcode.CLOSE)
    for late in (b"TP/1.1\r\n\r\n", request(), frames, b"\xff" * 99):
        assert session.receive_data(late, 0.0) == []
        assert session.data_to_send() == []
    session.receive_eof()
    assert b"".join(session.data_to_send()) == b""
    assert (session.phase, session.upgraded, session.close_code) == (Phase.CLOSING, False, 1006)


# The hello.


def test_hello() -> None:
    """The first message, a text that begins with `{`, is a hello."""
    ends = opened()
    ends.client.send_text(b'{"ticket": "t", "since": "1-0"}')
    assert ends.up() == [Greeted(Hello(ticket="t", since="1-0"))]
    assert ends.session.phase is Phase.AUTHENTICATING
    assert ends.down() == []


def test_bare_token() -> None:
    """Any other first text is a token."""
    ends = opened()
    ends.client.send_text("tökén".encode())
    assert ends.up() == [Greeted(Hello(token="tökén", bare=True))]


@pytest.mark.parametrize("cut", range(len("tökén".encode()) + 1))
def test_hello_in_fragments(cut: int) -> None:
    """A hello may come in fragments, cut anywhere, with a ping between them."""
    ends, token = opened(), "tökén".encode()
    ends.client.send_text(token[:cut], fin=False)
    ends.client.send_ping(b"?")
    ends.client.send_continuation(token[cut:], fin=True)
    assert ends.up() == [Greeted(Hello(token="tökén", bare=True))]
    assert ends.down() == [Frame(Opcode.PONG, b"?")]


def test_a_token_is_not_kept() -> None:
    """A session that was greeted holds neither the message nor the packet with the token."""
    session = Session(POLICY)
    receive(session, request() + masked(b"tok", fin=False) + masked(b"en", Opcode.CONT))
    assert session.phase is Phase.AUTHENTICATING
    assert (session._message, session._early) == (None, b"")


def test_open() -> None:
    """An authenticated client is live, or behind if it has missed something."""
    for behind, phase in ((False, Phase.LIVE), (True, Phase.BEHIND)):
        session = greeted().session
        session.open(behind=behind)
        assert session.phase is phase


def test_falling_behind_and_catching_up() -> None:
    """A client that was let in falls behind and catches up, however often."""
    session, phases = live().session, []
    for behind in (True, False, True, True, False):
        session.open(behind=behind)
        phases.append(session.phase.value)
    assert phases == ["behind", "live", "behind", "behind", "live"]


@pytest.mark.parametrize("behind", [True, False])
def test_nothing_is_opened_that_is_closing(behind: bool) -> None:  # noqa: FBT001 - both ways in
    """Whoever was closed meanwhile, or has closed, is not let in."""
    ours, theirs, gone = greeted(), greeted(), greeted().session
    ours.session.close(CloseCode.REVOKED)
    theirs.client.send_close()
    theirs.up()
    gone.release()
    for session in (ours.session, theirs.session, gone):
        session.open(behind=behind)
        assert session.phase is Phase.CLOSING


def test_who_is_behind_may_speak() -> None:
    """The messages of a client that is behind are taken as those of one that is live."""
    ends = greeted()
    ends.session.open(behind=True)
    ends.client.send_text(b'{"notifyd": "ack", "id": "1-0"}')
    ends.client.send_ping(b"hey")
    ends.client.send_text(b'{"token": "t"}')
    assert ends.up() == [Acknowledged("1-0"), Ignored()]
    assert ends.session.phase is Phase.BEHIND
    assert ends.down() == [Frame(Opcode.PONG, b"hey")]


@pytest.mark.parametrize("fin", [True, False])
def test_binary_hello(fin: bool) -> None:  # noqa: FBT001 - whether it is whole
    """A first message that is binary is closed with 4400."""
    ends = opened()
    ends.client.send_binary(b"token", fin=fin)
    if not fin:
        ends.client.send_continuation(b"", fin=True)
    assert ends.up() == [Closing("the first message is binary")]
    assert closed(ends) == (4400, "bad hello")


@pytest.mark.parametrize(
    "hello",
    [
        b"{",
        b"{}",
        b'{"token": "s3cret"',
        b'{"token": "s3cret", "ticket": "s3cret"}',
        b'{"token": ["s3cret"]}',
        b'{"ticket": null, "x": "s3cret"}',
        b'{"token": "s3cret", "since": 5}',
        b'{"token": "s3cret", "epoch": null}',
        b'{"x": ' + b"[" * 200,
    ],
    ids=range(9),
)
def test_bad_hello(hello: bytes) -> None:
    """A malformed hello is closed with 4400; what is said of it never quotes the token."""
    ends = opened()
    ends.client.send_text(hello)
    (closing,) = ends.up()
    assert isinstance(closing, Closing)
    assert closing.detail
    assert "s3cret" not in closing.detail
    assert closed(ends) == (4400, "bad hello")


# What comes later.


def test_later_messages() -> None:
    """An acknowledgement is read; anything else is ignored, and told so that it is counted."""
    ends = live()
    for text in (b'{"notifyd": "ack", "id": "1-0"}', b"token", b'{"id": "1-0"}', b"{"):
        ends.client.send_text(text)
    ends.client.send_binary(b"\xff")
    assert ends.up() == [Acknowledged("1-0"), Ignored(), Ignored(), Ignored(), Ignored()]
    assert ends.session.phase is Phase.LIVE
    assert ends.down() == []


def test_a_hello_is_the_first_message_only() -> None:
    """A second hello is ignored, whether the first was answered or not."""
    ends = opened()
    hello = masked(b'{"token": "t"}')
    assert receive(ends.session, hello + hello) == [Greeted(Hello(token="t")), Ignored()]
    ends.session.open(behind=False)
    assert receive(ends.session, hello) == [Ignored()]


def test_ping_is_answered() -> None:
    """A ping is answered with its payload, in every phase (RFC 6455 section 5.5.2)."""
    for ends in (opened(), greeted(), live()):
        ends.client.send_ping(b"hey")
        assert ends.up() == []
        assert ends.down() == [Frame(Opcode.PONG, b"hey")]


def test_a_pong_is_awaited_once() -> None:
    """A pong answers the keepalive's ping; it is noted, and told to nobody."""
    ends = live()
    ends.session.awaiting_pong = True
    ends.client.send_pong(b"")
    assert ends.up() == []
    assert not ends.session.awaiting_pong


def test_ten_a_second() -> None:
    """Ten messages at once are allowed; the next is closed with 4429."""
    ends = live()
    assert receive(ends.session, masked(b"x") * 10, 5.0) == [Ignored()] * 10
    ends.client.send_text(b"x")
    assert ends.up(5.0) == [Closing("too many messages")]
    assert closed(ends) == (4429, "too many")


def test_what_comes_with_one_too_many() -> None:
    """Of a packet with too many messages those before the limit are told, the others not."""
    session = live().session
    flood = receive(session, masked(b"x") * 100, 5.0)
    assert flood == [*[Ignored()] * 10, Closing("too many messages")]
    assert receive(session, masked(b"x") * 100, 500.0) == []


def test_a_steady_flow() -> None:
    """Ten messages a second are allowed for ever, on top of ten at once."""
    session = live().session
    receive(session, masked(b"x") * 9, 100.0)
    for tenth in range(300):
        assert receive(session, masked(b"x"), 100.125 + tenth * 0.125) == [Ignored()]


def test_a_second_after_a_flood() -> None:
    """Who has sent all that is allowed may go on when its time has come, not before."""
    session = live().session
    receive(session, masked(b"x") * 10, 5.0)
    assert receive(session, masked(b"x"), 5.125) == [Ignored()]
    assert receive(session, masked(b"x"), 5.1875) == [Closing("too many messages")]


@pytest.mark.parametrize(
    "frames",
    [
        masked(b"", Opcode.PING) * 11,
        masked(b"", Opcode.PONG) * 11,
        masked(b"", fin=False) + masked(b"", Opcode.CONT, fin=False) * 10,
    ],
    ids=["pings", "pongs", "fragments"],
)
def test_other_frames_count(frames: bytes) -> None:
    """Pings, pongs that nobody waits for, and fragments count as messages do, in every phase."""
    for ends in (opened(), greeted(), live()):
        assert receive(ends.session, frames) == [Closing("too many messages")]
        assert closed(ends)[0] == 4429


def test_a_greeting_costs_nothing() -> None:
    """A hello in one frame and awaited pongs don't count."""
    session = opened().session
    session.awaiting_pong = True
    assert len(receive(session, masked(b"t") + masked(b"", Opcode.PONG) + masked(b"x") * 10)) == 11
    assert session.phase is Phase.AUTHENTICATING
    assert receive(session, masked(b"x")) == [Closing("too many messages")]


@pytest.mark.parametrize(
    "frames",
    [masked(b"\xff"), masked(b"\xc3", fin=False) + masked(b"x", Opcode.CONT), masked(b"\xed\xa0")],
    ids=["no beginning", "no end", "surrogate"],
)
def test_invalid_utf8(frames: bytes) -> None:
    """A text that is not UTF-8 is closed with 1007, first message or not."""
    for ends in (opened(), live()):
        assert receive(ends.session, frames) == [Closing("invalid UTF-8")]
        assert closed(ends) == (1007, "invalid UTF-8")


@pytest.mark.parametrize(
    "frames",
    [
        masked(b"x" * 257),
        masked(b"x" * 200, fin=False) + masked(b"x" * 57, Opcode.CONT),
        # The announced length is enough: nobody waits for the bytes.
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=["whole", "in fragments", "announced"],
)
def test_too_big(frames: bytes) -> None:
    """A message longer than max_message is closed with 1009, fragments reckoned together."""
    for ends in (opened(), live()):
        (closing,) = receive(ends.session, frames)
        assert isinstance(closing, Closing)
        assert "exceeds limit" in closing.detail
        assert closed(ends)[0] == 1009


def test_as_big_as_allowed() -> None:
    """A message of max_message bytes is read; without a limit, any."""
    assert receive(opened().session, masked(b"x" * 256)) == [
        Greeted(Hello(token="x" * 256, bare=True))
    ]
    unlimited = live(Policy(origins=[None], max_message=None))
    assert receive(unlimited.session, masked(b"x" * 100_000)) == [Ignored()]


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        (Frame(Opcode.TEXT, b"token").serialize(mask=False), "incorrect masking"),
        (b"\xf1\x80\0\0\0\0", "reserved bits must be 0"),
        (b"\x83\x80\0\0\0\0", "invalid opcode"),
        (b"\x09\x80\0\0\0\0", "fragmented control frame"),
        (masked(b"x", Opcode.CONT), "unexpected continuation frame"),
        (masked(b"x", fin=False) + masked(b"x"), "expected a continuation frame"),
        (masked(b"x", fin=False) + masked(b"", Opcode.CLOSE), "incomplete fragmented message"),
        (masked(b"\x03\xee", Opcode.CLOSE), "invalid status code"),
        (masked(b"\x03", Opcode.CLOSE), "close frame too short"),
    ],
    ids=range(9),
)
def test_protocol_errors(frames: bytes, fault: str) -> None:
    """What breaks RFC 6455 is closed with 1002, first message or not."""
    for ends in (opened(), live()):
        assert receive(ends.session, frames) == [Closing(fault)]
        assert closed(ends) == (1002, fault)
        assert receive(ends.session, masked(b"x") * 50) == []
        assert ends.session.data_to_send() == []


# The end (RFC 6455 section 7).


def test_close_by_the_client() -> None:
    """A client's Close is answered with its code, and ends our stream."""
    ends = live()
    ends.client.send_close(4321, "bye")
    assert ends.up() == [Closing("closed by the client")]
    assert ends.session.phase is Phase.CLOSING
    *_, echo, end = ends.session.data_to_send()
    assert (echo, end) == (Frame(Opcode.CLOSE, b"\x10\xe1bye").serialize(mask=False), b"")
    assert ends.session.close_code == 4321


def test_close_without_a_code() -> None:
    """An empty Close is counted as 1005 and answered with an empty one."""
    ends = live()
    ends.client.send_close()
    ends.up()
    assert ends.session.close_code == 1005
    assert ends.down() == [Frame(Opcode.CLOSE, b"")]


def test_a_hello_and_a_close() -> None:
    """A client may greet and go in one packet: both are told, in order."""
    session = opened().session
    data = masked(b"token") + masked(b"\x03\xe9", Opcode.CLOSE) + masked(b"x")
    assert receive(session, data) == [
        Greeted(Hello(token="token", bare=True)),
        Closing("closed by the client"),
    ]
    assert (session.phase, session.close_code) == (Phase.CLOSING, 1001)


def test_a_hello_and_an_error() -> None:
    """What comes before an error in the same packet is told before it."""
    session = opened().session
    greeting, closing = receive(session, masked(b"token") + b"\xff\xff")
    assert isinstance(greeting, Greeted)
    assert closing == Closing("invalid opcode")
    assert session.close_code == 1002


def test_the_first_fault_is_told() -> None:
    """A fault of ours in a packet that also ends the conversation doesn't send a second Close."""
    ends = opened()
    data = masked(b"{}") + masked(b"\x03\xe8", Opcode.CLOSE)
    assert receive(ends.session, data) == [Closing("a hello has either a token or a ticket")]
    assert closed(ends)[0] == 1000


@pytest.mark.parametrize("code", set(CloseCode) - {CloseCode.NO_STATUS, CloseCode.ABNORMAL})
def test_close_by_us(code: CloseCode) -> None:
    """We close with any code and its reason, and end our stream when the client has answered."""
    ends = live()
    assert ends.session.close(code)
    assert closed(ends) == (code, code.reason)
    assert ends.session.data_to_send() == []
    assert ends.up() == []
    assert (ends.session.data_to_send(), ends.session.close_code) == ([b""], code)


def test_close_with_a_reason() -> None:
    """Another reason than the code's own may be given."""
    ends = greeted()
    assert ends.session.close(CloseCode.TOO_MANY, "too many connections")
    assert closed(ends) == (4429, "too many connections")


def test_late_data() -> None:
    """What still comes after our Close is told to nobody, counted by nobody."""
    ends = live()
    ends.session.close(CloseCode.TOO_SLOW)
    ends.session.data_to_send()
    assert receive(ends.session, masked(b'{"notifyd": "ack", "id": "1-0"}') * 50) == []
    assert receive(ends.session, b"\xff\xff") == []
    assert (ends.session.data_to_send(), ends.session.close_code) == ([b""], 4420)


def test_close_twice() -> None:
    """There is one Close: a second one is not sent."""
    ends = live()
    assert ends.session.close(CloseCode.RESTART)
    assert not ends.session.close(CloseCode.TOO_SLOW)
    assert closed(ends)[0] == 1012


def test_both_close() -> None:
    """When both close at once, the code that counts is ours: it was first to be known here."""
    ends = live()
    ends.client.send_close(1000)
    assert ends.session.close(CloseCode.RESTART)
    assert ends.up() == []
    assert (ends.session.close_code, ends.session.phase) == (1012, Phase.CLOSING)
    assert ends.session.data_to_send()[1:] == [b""]


def test_no_close_after_the_clients() -> None:
    """A client that has closed gets no Close but the answer to its own."""
    ends = live()
    ends.client.send_close(1000)
    ends.up()
    assert not ends.session.close(CloseCode.RESTART)
    assert ends.down() == [Frame(Opcode.CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize(
    "data", [b"", b"GET / HT", request(), request() + masked(b"token")], ids=range(4)
)
def test_close_before_the_handshake(data: bytes) -> None:
    """Before the handshake is finished there is no Close to send: the transport is closed."""
    session = Session(POLICY)
    session.receive_data(data, 0.0)
    assert not session.close(CloseCode.RESTART)
    assert (session.data_to_send(), session.phase) == ([], Phase.CLOSING)


def test_the_peer_vanishes() -> None:
    """A stream that ends without a Close is counted as 1006."""
    for ends in (opened(), greeted(), live()):
        ends.session.receive_eof()
        assert (ends.session.close_code, ends.session.phase) == (1006, Phase.CLOSING)
        assert ends.session.data_to_send() == [b""]
        assert not ends.session.close(CloseCode.RESTART)


@pytest.mark.parametrize("data", [b"", b"GET / HT", request()], ids=range(3))
def test_the_peer_vanishes_early(data: bytes) -> None:
    """A stream may end before the handshake."""
    session = Session(POLICY)
    session.receive_data(data, 0.0)
    session.receive_eof()
    assert (session.phase, session.upgraded) == (Phase.CLOSING, False)
    assert b"".join(session.data_to_send()) == b""


def test_the_end_of_a_stream_after_a_close() -> None:
    """The end of the stream after a Close changes nothing, and it may be told twice."""
    ours, theirs = live(), live()
    ours.session.close(CloseCode.RESTART)
    theirs.client.send_close(4321)
    theirs.up()
    for ends, code in ((ours, 1012), (theirs, 4321)):
        for _ in range(2):
            ends.session.receive_eof()
        assert (ends.session.close_code, ends.session.phase) == (code, Phase.CLOSING)
        assert closed(ends)[0] == code


# What is left behind.


def talked(frames: bytes = b"") -> Session:
    """Return a session that was upgraded and has heard these frames."""
    session = Session(POLICY)
    receive(session, request() + frames)
    return session


def by_us() -> Session:
    """End a conversation as it should end, by us."""
    session = talked(masked(b"token"))
    session.close(CloseCode.RESTART)
    session.data_to_send()
    receive(session, masked(b"\x03\xf4", Opcode.CLOSE))
    return session


def cut_off(data: bytes) -> Session:
    """End a conversation by the end of the stream."""
    session = Session(POLICY)
    receive(session, data)
    session.receive_eof()
    return session


def unanswered(data: bytes) -> Session:
    """Return a session that waits for what to do with a request."""
    session = Session(POLICY)
    session.receive_data(data, 0.0)
    return session


ENDS: dict[str, Callable[[], Session]] = {
    "by the client": lambda: talked(masked(b"token") + masked(b"\x03\xe8", Opcode.CLOSE)),
    "by us": by_us,
    "by both": lambda: cut_off(request() + masked(b"", Opcode.CLOSE)),
    "by the end of the stream": lambda: cut_off(request() + masked(b"token") + b"\x81"),
    "not at all": lambda: talked(masked(b"token")),
    "silent": talked,
    "in the middle of a hello": lambda: talked(masked(b"tok", fin=False) + b"\x80"),
    "bad hello": lambda: talked(masked(b"{")),
    "invalid UTF-8": lambda: talked(masked(b"\xff")),
    "too many": lambda: talked(masked(b"", Opcode.PING) * 11),
    "too big": lambda: talked(masked(b"x" * 999)),
    "unmasked": lambda: talked(b"\x81\x00"),
    "invalid opcode": lambda: talked(b"\x83\x80\0\0\0\0"),
    "invalid UTF-8 in a close": lambda: talked(masked(b"\x03\xe8\xff", Opcode.CLOSE)),
    "nothing received": lambda: Session(POLICY),
    "end before a request": lambda: cut_off(b""),
    "half a line": lambda: cut_off(b"GET / HT"),
    "half a head": lambda: cut_off(request()[:-2]),
    "request unanswered": lambda: unanswered(request() + masked(b"token")),
    "refused": lambda: refused(request()),
    "refused with frames behind": lambda: refused(request() + masked(b"token")),
    "closed before the answer": lambda: abandoned(request()),
    "garbage": lambda: rejected(b"\xff\r\n"),
    "bad header": lambda: rejected(request(headers={"Cookie": "\x00"})),
    "not ASCII": lambda: rejected(b"GET /\xff HTTP/1.1\r\n\r\n"),
    "too long": lambda: rejected(b"x" * 9_000),
    "plain": lambda: rejected(b"GET / HTTP/1.1\r\n\r\n"),
    "origin": lambda: rejected(request(headers={"Origin": "null"})),
    "no key": lambda: rejected(request(headers={"Sec-WebSocket-Key": None})),
    "bad key": lambda: rejected(request(headers={"Sec-WebSocket-Key": "\xff"})),
    "bad list": lambda: rejected(request(headers={"Connection": ","})),
}


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Turn the garbage collector off, after it has cleared what is not ours."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_released(end: Callable[[], Session]) -> None:
    """However a connection ended, it leaves memory at once, without the garbage collector."""
    end().release()  # What is made once for all is made now.
    with no_collector():
        session = end()
        protocol = weakref.ref(session._protocol)
        parser = weakref.ref(session._protocol.parser)
        session.release()
        assert session.phase is Phase.CLOSING
        del session
        assert (protocol(), parser(), gc.collect()) == (None, None, 0)


def headers_alive() -> int:
    """Count the headers in memory, the weight of a request: they take no weak references."""
    return sum(type(thing) is Headers for thing in gc.get_objects())


def test_an_accepted_request_goes() -> None:
    """A conversation keeps neither its request's headers nor the protocol that read them."""
    with no_collector():
        before, session = headers_alive(), Session(POLICY)
        server = weakref.ref(session._protocol)
        receive(session, request())
        assert (headers_alive(), server()) == (before, None)


def test_a_refused_request_goes() -> None:
    """A request that was refused is forgotten at once, its connection may stay for seconds."""
    with no_collector():
        before, session = headers_alive(), refused(request())
        assert (headers_alive(), session.phase) == (before, Phase.CLOSING)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_no_request_stays(end: Callable[[], Session]) -> None:
    """Once it is released, a session keeps no headers alive, whoever still holds it."""
    with no_collector():
        before = headers_alive()
        session = end()
        session.release()
        assert headers_alive() == before


def test_a_session_is_small() -> None:
    """A live client's conversation takes less than 2 KB, the library's part included."""
    live()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        sessions = [live().session for _ in range(200)]
        for session in sessions:
            session.data_to_send()
        gc.collect()  # The clients' ends.
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(sessions) < 2_000
    for session in sessions:
        session.release()


# Whatever comes.


def letters(session: Session, happenings: Sequence[Happening]) -> str:
    """Spell what happened, one letter each; and let a client in as soon as it has greeted.

    Those that can be behind are.
    """
    for happening in happenings:
        if isinstance(happening, Greeted) and session.phase is Phase.AUTHENTICATING:
            session.open(behind=not happening.hello.bare)
    return "".join(type(happening).__name__[0] for happening in happenings)


# Requested, then NotUpgraded or Greeted, then Acknowledged and Ignored, and Closing at the end.
ORDER = re.compile(r"N|R?N?|RC|RG[AI]*C?")

http = st.lists(
    st.sampled_from(
        [
            *(b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"\r\n", b"\n", b"\r", b":", b", "),
            *(f"{name}: {value}\r\n".encode() for name, value in UPGRADE.items()),
            *(b"Origin: ", b"null\r\n", b"Connection: ", b"Upgrade: ", b"\xff", b"\0", b"=;\r\n"),
            *(b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Extensions: ", b"Sec-WebSocket-Key: "),
            *(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"X: " + b"x" * 5_000),
        ]
    )
    | st.binary(max_size=20),
    max_size=20,
).map(b"".join)
frames = st.lists(
    st.builds(
        lambda opcode, data, fin: masked(data, opcode, fin=fin or opcode >= Opcode.CLOSE),
        st.sampled_from(Opcode),
        st.sampled_from([b"", b"token", b'{"token": "t"}', b'{"notifyd": "ack", "id": "1-0"}'])
        | st.binary(max_size=125),
        st.sampled_from([True, True, False]),
    ),
    max_size=20,
).map(b"".join)
beginnings = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", request()[:-2], request(), PIPELINED])


@settings(max_examples=200, deadline=None)
@given(st.data(), beginnings, st.lists(http | frames | st.binary(max_size=50), max_size=5))
def test_any_bytes(data: st.DataObject, beginning: bytes, pieces: list[bytes]) -> None:
    """Whatever bytes come in whatever chunks, a session raises nothing, and ends as it should."""
    stream, session, spelled = beginning + b"".join(pieces), Session(POLICY), ""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        spelled += letters(session, receive(session, stream[:size]))
        stream = stream[size:]
    assert ORDER.fullmatch(spelled)
    session.receive_eof()
    assert session.phase is Phase.CLOSING
    assert b"" in session.data_to_send()
    session.release()


class Speaker:
    """A client that says valid frames, and the session that hears them, a second between each."""

    def __init__(self) -> None:
        self.ends = opened()
        self.spelled = ""
        self.phases = [Phase.HELLO]
        self.fragments = False
        self.answers: list[Frame] = []

    def say(self, opcode: Opcode, data: bytes, *, fin: bool) -> None:
        """Say one frame, changed where it would not be valid now."""
        client, session = self.ends.client, self.ends.session
        if opcode is Opcode.PING:
            client.send_ping(data)
            self.answers.append(Frame(Opcode.PONG, data))
        elif opcode is Opcode.PONG:
            session.awaiting_pong = True
            client.send_pong(data)
        elif opcode is Opcode.CLOSE and not self.fragments:
            client.send_close(4000 + len(data), "bye")
        elif self.fragments:
            client.send_continuation(data, fin=fin)
            self.fragments = not fin
        else:
            client.send_text(data, fin=fin)
            self.fragments = not fin
        happenings = self.ends.up(now=float(len(self.phases)))
        self.phases.append(session.phase)
        self.spelled += letters(session, happenings)
        self.phases.append(session.phase)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
            st.sampled_from([b"", b"token", b'{"notifyd": "ack", "id": "1-0"}', "é".encode()]),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_any_valid_frames(frames: list[tuple[Opcode, bytes, bool]]) -> None:
    """Whatever a well-behaved client says, the phases stay in order, and pings are answered."""
    speaker = Speaker()
    for opcode, data, fin in frames:
        if speaker.ends.session.phase is Phase.CLOSING:
            break
        speaker.say(opcode, data, fin=fin)
    order = [*Phase]
    positions = [order.index(phase) for phase in speaker.phases]
    assert positions == sorted(positions)
    assert re.fullmatch(r"(G[AI]*)?C?", speaker.spelled)
    assert speaker.ends.session.close_code != CloseCode.TOO_MANY
    pongs = speaker.ends.down()
    last = [pongs.pop()] if speaker.spelled.endswith("C") else []
    assert all(isinstance(frame, Frame) and frame.opcode is Opcode.CLOSE for frame in last)
    assert pongs == speaker.answers


@pytest.mark.parametrize("size", [0, 1, 125, 126, 256])
def test_whole_at_the_boundary_of_a_frame(size: int) -> None:
    """A session is whole before the first byte of a frame and behind the last, never between."""
    session = Session(POLICY, Phase.LIVE)
    data = Frame(Opcode.TEXT, b"x" * size).serialize(mask=True)
    whole = [session.whole]
    for number in range(len(data)):
        receive(session, data[number : number + 1])
        whole.append(session.whole)
    assert whole == [True] + [False] * (len(data) - 1) + [True]


def test_whole_at_the_boundary_of_a_message() -> None:
    """Between the fragments of a message it is not whole."""
    session = Session(POLICY, Phase.LIVE)
    receive(session, Frame(Opcode.TEXT, b"a", fin=False).serialize(mask=True))
    assert not session.whole
    receive(session, Frame(Opcode.CONT, b"b").serialize(mask=True))
    assert session.whole


def test_whole_in_the_handshake() -> None:
    """A session to which nothing was said is whole; in the middle of a request it isn't."""
    ends = Ends()
    assert ends.session.whole
    [request] = ends.client.data_to_send()
    ends.session.receive_data(request[:10], 0.0)
    assert not ends.session.whole
    ends.session.receive_data(request[10:], 0.0)
    assert not ends.session.whole
    ends.session.accept(0.0)
    assert ends.session.whole


def test_a_length_that_is_longer_than_need_be() -> None:
    """Whose frames can't be counted is never taken for whole again."""
    session = Session(POLICY, Phase.LIVE)
    receive(session, b"\x81\xfe\x00\x01" + bytes(4) + b"x")
    assert not session.whole
    receive(session, Frame(Opcode.TEXT, b"x").serialize(mask=True))
    assert not session.whole


@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.BEHIND])
def test_going_on(phase: Phase) -> None:
    """A session that has come so far elsewhere goes on there."""
    session = Session(POLICY, phase)
    assert session.upgraded
    assert session.phase is phase
    happenings = receive(session, Frame(Opcode.TEXT, b"token").serialize(mask=True))
    expected = Greeted(Hello(token="token", bare=True)) if phase is Phase.HELLO else Ignored()
    assert happenings == [expected]
    session.close(CloseCode.RESTART)
    assert b"".join(session.data_to_send())[2:4] == b"\x03\xf4"
