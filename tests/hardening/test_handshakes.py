"""Attacks before there is a WebSocket: on the socket and its HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import HANDSHAKE, HEAD, frame
from waiting import until

if TYPE_CHECKING:
    from hardening.attacks import Attack

GARBAGE = {
    "no HTTP": (b"\x00\xff" * 100 + b"\r\n\r\n", None),
    "TLS": (bytes.fromhex("16030100f8010000f40303") + b"\n" * 200, None),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    "HTTP/1.0": (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
    "a frame": (frame("no handshake before it") + b"\r\n\r\n", None),
    "a line without end": (b"GET /" + b"x" * 20_000, 414),
    "a huge header": (HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    "headers without end": (HEAD + b"X: x\r\n" * 2_000, 431),
    "a header without colon": (HEAD + b"nothing\r\n\r\n", None),
    "a folded header": (HEAD + b"X: x\r\n folded\r\n\r\n", None),
    "NUL in a header": (HEAD + b"X: \0\r\n\r\n", None),
    "a body": (HEAD + b"Content-Length: 5\r\n\r\nhello", None),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    "no key": (HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X"), 400),
    "two keys": (HEAD + b"Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBA==\r\n\r\n", 400),
    "a short key": (HANDSHAKE.replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"AAAA"), 400),
    "an old version": (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), 400),
    "two origins": (HEAD + b"Origin: http://a.example\r\nOrigin: http://b.example\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_instead_of_a_handshake(
    attack: Attack, data: bytes, status: int | None
) -> None:
    """What is no handshake request is refused, without a word if it isn't even HTTP."""
    attacker = await attack.connected()
    await attacker.send(data)
    await attack.refused(attacker, status, "malformed")


async def test_plain_get(attack: Attack) -> None:
    """Whoever asks for a page is told that an upgrade is required."""
    attacker = await attack.connected()
    await attacker.send(HANDSHAKE.replace(b"Upgrade", b"X-Upgrade"))
    await attack.refused(attacker, 426, "not_websocket")


async def test_post(attack: Attack) -> None:
    """Whoever posts something is told that only GET is allowed."""
    attacker = await attack.connected()
    await attacker.send(HANDSHAKE.replace(b"GET", b"POST"))
    await attack.refused(attacker, 405, "not_websocket")


FOREIGN = ["https://evil.example", "null", "http://localhost.evil.example", "file://"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_foreign_origin(attack: Attack, origin: str) -> None:
    """A page of another site is refused, and the log has the line that would let it in."""
    attacker = await attack.connected()
    await attacker.send(HEAD + f"Origin: {origin}\r\n\r\n".encode())
    line = await attack.refused(attacker, 403, "origin")
    assert line["origin"] == origin
    assert line["hint"] == f'add to [server]: origins = ["{origin}"]'


async def test_frames_before_the_answer(attack: Attack) -> None:
    """What is sent together with a request that is refused is not looked at."""
    attacker = await attack.connected()
    hello = frame(attack.house.token("omar"))
    await attacker.send(HEAD + b"Origin: https://evil.example\r\n\r\n" + hello * 100)
    await attack.refused(attacker, 403, "origin")
    assert attack.counted("authentications_total", result="ok") == 0


@pytest.mark.long
async def test_no_handshake(attack: Attack) -> None:
    """Whoever does not finish the handshake is dropped in time, however far the request came."""
    attackers = [await attack.connected() for _ in range(3)]
    for attacker, data in zip(attackers, (b"", b"G", HEAD), strict=True):
        await attacker.send(data)
    assert [await attacker.answer() for attacker in attackers] == ["", "", ""]
    lines = await attack.logged(*["connection.refused"] * 3)
    assert {line["reason"] for line in lines} == {"timeout"}
    assert attack.counted("connections_refused_total", reason="timeout") == 3


@pytest.mark.parametrize("data", [b"", HEAD, HANDSHAKE], ids=["nothing", "half", "all"])
async def test_reset_during_the_handshake(attack: Attack, data: bytes) -> None:
    """Whoever vanishes leaves nothing behind, as a load balancer's probe does."""
    attacker = await attack.connected()
    await attacker.send(data)
    attacker.reset()
    await until(lambda: attack.house.connections() == 1)
    assert set(attack.names()) <= {"connection.closed"}


@pytest.mark.long
async def test_slowloris(attack: Attack) -> None:
    """Two hundred clients that send their request a byte at a time keep nobody from coming in."""
    attackers = [await attack.connected() for _ in range(200)]
    entering = asyncio.create_task(attack.house.enter("omar", "127.0.0.3"))
    for byte in HANDSHAKE[:50]:
        await asyncio.gather(*(attacker.flood(bytes([byte])) for attacker in attackers))
    await (await entering).client.close()
    answers = await asyncio.gather(*(attacker.answer() for attacker in attackers))
    assert set(answers) == {""}
    await attack.logged("connection.closed", *["connection.refused"] * 200)
    assert attack.counted("connections_refused_total", reason="timeout") == 200


async def test_more_connections_than_the_daemon_takes(attack: Attack) -> None:
    """Who comes when the daemon is full is invited back later, before any handshake."""
    idle = [await attack.connected() for _ in range(299)]
    await until(lambda: attack.house.connections() == 300)
    attacker = await attack.connected()
    await attacker.send(HANDSHAKE)
    answer = await attacker.answer()
    assert answer.startswith("HTTP/1.1 503 ")
    assert "\r\nRetry-After: 10\r\n" in answer
    await attack.logged("connection.refused")
    assert attack.counted("connections_refused_total", reason="full") == 1
    for each in idle:
        each.socket.close()


async def test_more_connections_than_an_address_may_have(attack: Attack) -> None:
    """Who has too many connections is closed with 4429; other addresses don't notice."""
    idle = [await attack.upgraded() for _ in range(50)]
    line = await attack.closed(await attack.upgraded(), 4429)
    assert line["reason"] == "too many connections from this address"
    guest = await attack.house.enter("omar", "127.0.0.3")
    await guest.client.close()
    for each in idle:
        each.socket.close()
    await attack.logged(*["connection.closed"] * 52)


async def test_more_connections_than_a_user_may_have(attack: Attack) -> None:
    """A user's eleventh connection is closed with 4429, whatever address it comes from."""
    guests = [await attack.house.enter("omar", f"127.0.0.{n}") for n in range(10, 20)]
    attacker = await attack.upgraded(frame(attack.house.token("omar")))
    await attack.closed(attacker, 4429)
    await asyncio.gather(*(guest.client.close() for guest in guests))
    await attack.logged(*["connection.closed"] * 11)


async def test_forged_address(attack: Attack) -> None:
    """X-Forwarded-For is not believed from anybody but a trusted proxy."""
    headers = "X-Forwarded-For: 192.0.2.1\r\n"
    attacker = await attack.upgraded(frame(""), address="127.0.0.4", headers=headers)
    assert (await attack.denied(attacker, "invalid"))["address"] == "127.0.0.4"


SPOOFED = {
    "192.0.2.1": "192.0.2.1",
    "10.0.0.1, 192.0.2.1": "192.0.2.1",
    "127.0.0.77, 192.0.2.1, 127.0.0.77": "192.0.2.1",
    "[2001:db8::1]:443": "2001:db8::1",
    "192.0.2.1, " + "x" * 4000: "127.0.0.77",
    "192.0.2.1, \N{SNOWMAN}": "127.0.0.77",
    "": "127.0.0.77",
}


@pytest.mark.parametrize(("forwarded", "address"), SPOOFED.items(), ids=map(str, range(7)))
async def test_forged_address_behind_a_proxy(attack: Attack, forwarded: str, address: str) -> None:
    """Of X-Forwarded-For only what the proxy has added counts, not what the client had sent it."""
    headers = f"X-Forwarded-For: {forwarded}\r\n"
    attacker = await attack.upgraded(frame(""), address="127.0.0.77", headers=headers)
    assert (await attack.denied(attacker, "invalid"))["address"] == address
