"""Attacks over an open WebSocket: frames that RFC 6455 forbids, and too many of the others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import frame, header
from websockets.frames import Opcode

if TYPE_CHECKING:
    from hardening.attacks import Attack

# The first byte of a frame: FIN and an opcode.
TEXT, CLOSE, PING = 0x81, 0x88, 0x89
MASK = bytes(4)

ILLEGAL = {
    "unmasked": (header(TEXT, 2, masked=False) + b"{}", 1002),
    "reserved data opcode": (header(0x83, 0) + MASK, 1002),
    "reserved control opcode": (header(0x8B, 0) + MASK, 1002),
    "RSV1, a compressed frame": (header(TEXT | 0x40, 0) + MASK, 1002),
    "RSV2": (header(TEXT | 0x20, 0) + MASK, 1002),
    "RSV3": (header(TEXT | 0x10, 0) + MASK, 1002),
    "a long ping": (header(PING, 126) + MASK + bytes(126), 1002),
    "a fragmented ping": (header(PING & 0x7F, 0) + MASK, 1002),
    "a continuation of nothing": (frame("", Opcode.CONT), 1002),
    "a message inside a message": (frame("a", fin=False) + frame("b"), 1002),
    "one byte too many": (header(TEXT, 4097) + MASK + bytes(4097), 1009),
    "2**63 - 1 bytes": (header(TEXT, 2**63 - 1) + MASK, 1009),
    "2**64 - 1 bytes": (header(TEXT, 2**64 - 1) + MASK, 1009),
    "fragments": (frame(b"a" * 4000, fin=False) + frame(b"a" * 97, Opcode.CONT), 1009),
    "invalid UTF-8": (frame(b"\xc0\xaf"), 1007),
    "a surrogate": (frame(b"\xed\xa0\x80"), 1007),
    "half a character": (frame(b"\xe2\x82", fin=False) + frame(b"", Opcode.CONT), 1007),
    "a Close of one byte": (frame(b"\x03", Opcode.CLOSE), 1002),
    "a Close whose reason is not UTF-8": (frame(b"\x03\xe8\xff", Opcode.CLOSE), 1007),
}


@pytest.mark.parametrize("live", [False, True], ids=["hello", "live"])
@pytest.mark.parametrize(("data", "code"), ILLEGAL.values(), ids=ILLEGAL)
async def test_illegal_frame(attack: Attack, data: bytes, code: int, *, live: bool) -> None:
    """Whoever breaks RFC 6455, before the hello or later, is closed with the code it names."""
    attacker = await (attack.entered() if live else attack.upgraded())
    await attacker.send(data)
    await attack.closed(attacker, code)


async def test_fragmented_character(attack: Attack) -> None:
    """A character may be cut in two by fragments, and a control frame may come between them."""
    snowman = "\N{SNOWMAN}".encode()
    fragments = frame(snowman[:1], fin=False), frame(snowman[1:], Opcode.CONT)
    attacker = await attack.upgraded(fragments[0], frame("", Opcode.PING), fragments[1])
    await attack.denied(attacker, "invalid")


FLOODS = {
    "messages": frame("{}") * 100,
    "long messages": frame("x" * 4096) * 100,
    "binary messages": frame(b"\0", Opcode.BINARY) * 100,
    "pings": frame(bytes(125), Opcode.PING) * 100,
    "pongs": frame("", Opcode.PONG) * 100,
    "empty fragments": frame("", fin=False) + frame("", Opcode.CONT, fin=False) * 100,
    "acknowledgements": frame('{"notifyd": "ack", "id": "1-1"}') * 100,
    "more messages than fit any buffer": frame("x" * 4096) * 10_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_flood(attack: Attack, flood: bytes) -> None:
    """More than ten messages a second, of whatever kind, are closed with 4429."""
    attacker = await attack.entered()
    await attacker.flood(flood)
    await attack.closed(attacker, 4429)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.TEXT], ids=str)
async def test_flood_before_the_hello(attack: Attack, opcode: Opcode) -> None:
    """The hello itself is not counted, but whatever comes before its end."""
    attacker = await attack.upgraded()
    await attacker.flood(frame("", opcode, fin=opcode is not Opcode.TEXT) * 100)
    await attack.closed(attacker, 1002 if opcode is Opcode.TEXT else 4429)


async def test_messages_while_logging_in(attack: Attack) -> None:
    """Messages that follow the hello at once are read, counted, and change nothing."""
    attacker = await attack.upgraded(frame(attack.house.token("omar")), frame("{}") * 5)
    await attacker.send(frame(b"\x03\xe8", Opcode.CLOSE))
    await attack.closed(attacker, 1000)
    assert attack.counted("messages_ignored_total") == 5


CLOSES = {
    "none": (b"", 1005, "1005"),
    "normal": (b"\x03\xe8", 1000, "1000"),
    "with a reason": (b"\x03\xe9" + b"x" * 123, 1001, "1001"),
    "of the library": (struct.pack("!H", 1014), 1014, "other"),
    "registered": (struct.pack("!H", 3000), 3000, "other"),
    "private": (struct.pack("!H", 4999), 4999, "other"),
    "one of ours": (struct.pack("!H", 4420), 4420, "4420"),
    "0": (bytes(2), 1002, "1002"),
    "999": (struct.pack("!H", 999), 1002, "1002"),
    "1004": (struct.pack("!H", 1004), 1002, "1002"),
    "1005": (struct.pack("!H", 1005), 1002, "1002"),
    "1006": (struct.pack("!H", 1006), 1002, "1002"),
    "1015": (struct.pack("!H", 1015), 1002, "1002"),
    "2999": (struct.pack("!H", 2999), 1002, "1002"),
    "5000": (struct.pack("!H", 5000), 1002, "1002"),
    "65535": (b"\xff\xff", 1002, "1002"),
}


@pytest.mark.parametrize(("data", "code", "label"), CLOSES.values(), ids=CLOSES)
async def test_odd_close(attack: Attack, data: bytes, code: int, label: str) -> None:
    """A client's Close is answered alike and counted; no client makes a label of its own."""
    attacker = await attack.entered()
    await attacker.send(frame(data, Opcode.CLOSE))
    await attack.closed(attacker, code, label=label)


async def test_frames_behind_a_close(attack: Attack) -> None:
    """Nothing is read behind a Close, not even another one."""
    attacker = await attack.entered()
    more = frame("x") * 100 + frame("", Opcode.PING) * 100 + frame(b"\x0f\xa0", Opcode.CLOSE)
    await attacker.send(frame(b"\x03\xe8", Opcode.CLOSE) + more)
    await attack.closed(attacker, 1000)


async def test_end_without_a_close(attack: Attack) -> None:
    """Whoever hangs up without a word, in the middle of a frame even, counts as vanished."""
    attacker = await attack.entered()
    await attacker.send(header(TEXT, 100) + MASK)
    attacker.socket.close()
    [line] = await attack.logged("connection.closed")
    assert line["code"] == 1006
    assert attack.counted("connections_closed_total", code="1006") == 1


@pytest.mark.parametrize("data", [b"", header(TEXT, 100) + MASK], ids=["between", "inside"])
async def test_reset(attack: Attack, data: bytes) -> None:
    """A RST between frames or inside one counts as vanished, and is no error of ours."""
    attacker = await attack.entered()
    await attacker.send(data)
    attacker.reset()
    [line] = await attack.logged("connection.closed")
    assert line["code"] == 1006
    assert attack.counted("connections_closed_total", code="1006") == 1


async def test_close_that_is_never_answered(attack: Attack) -> None:
    """Whoever neither answers our Close nor hangs up is dropped in time, under the code we sent."""
    attacker = await attack.entered()
    await attacker.send(header(0x83, 0) + MASK)
    assert await attacker.close_code() == 1002
    [line] = await attack.logged("connection.closed")
    assert line["code"] == 1002
