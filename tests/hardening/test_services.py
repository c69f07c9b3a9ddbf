"""Attacks on what is meant for operators alone: the admin listener and the control socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hardening.attacks import Attack, House

pytestmark = pytest.mark.long

NOT_HTTP = {
    "no HTTP": b"\x00\xff\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + b"\n" * 200,
    "a line without end": b"GET /" + b"x" * 100_000,
    "headers without end": b"GET /metrics HTTP/1.1\r\n" + b"X: x\r\n" * 10_000,
    "a body": b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "nothing": b"",
    "half a request": b"GET /metrics HTTP/1.1\r\n",
}


async def converse(stream: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> str:
    """Send the bytes, end, and return everything that is answered."""
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            return (await stream.read()).decode()
    finally:
        writer.close()


async def admin(house: House, data: bytes) -> str:
    """Do so with the admin listener."""
    host, _, port = house.admin.rpartition(":")
    return await converse(*await asyncio.open_connection(host, int(port)), data)


async def control(house: House, data: bytes) -> str:
    """Do so with the control socket."""
    path = house.daemon.environment["NOTIFYD_CONTROL_SOCKET"]
    return await converse(*await asyncio.open_unix_connection(path), data)


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_garbage_at_the_admin_listener(attack: Attack, data: bytes) -> None:
    """What is no request is answered with 400."""
    assert (await admin(attack.house, data)).startswith("HTTP/1.1 400 ")
    await attack.logged()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /metrics", 405),
        ("DELETE /readyz", 405),
        ("GET /", 404),
        ("GET /../../etc/passwd", 404),
        ("GET //metrics", 404),
        ("GET http://127.0.0.1/metrics", 404),
        ("GET /metrics?" + "x" * 5_000, 200),
        ("HEAD /metrics", 200),
    ],
)
async def test_odd_request_at_the_admin_listener(
    attack: Attack, request_line: str, status: int
) -> None:
    """Only three pages are there, and only to be read."""
    answer = await admin(attack.house, f"{request_line} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ")
    await attack.logged()


@pytest.mark.parametrize("accept", ["\xff", "*/*;q=nan", "application/openmetrics-text;version=x"])
async def test_odd_accept(attack: Attack, accept: str) -> None:
    """A request for a format that does not exist is answered in one that does."""
    request = f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode("latin-1")
    assert "\nnotifyd_redis_up 1.0\n" in await admin(attack.house, request)
    await attack.logged()


async def test_dawdlers(attack: Attack) -> None:
    """Who says nothing at the admin listener or the control socket is dropped; others go on."""
    house = attack.house
    host, _, port = house.admin.rpartition(":")
    path = house.daemon.environment["NOTIFYD_CONTROL_SOCKET"]
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(31)]
    idle += [await asyncio.open_unix_connection(path) for _ in range(100)]
    assert (await admin(house, b"GET /livez HTTP/1.1\r\n\r\n")).endswith("ok")
    assert json.loads(await control(house, b'{"command": "status"}\n'))["failing"] == {}
    async with asyncio.timeout(10):
        answers = [await reader.read() for reader, _ in idle]
    assert set(answers[:31]) == {b""}
    assert set(answers[31:]) == {b'{"error": "no request within 5 s"}\n'}
    for _, writer in idle:
        writer.close()
    await attack.logged("control.command")


UNKNOWN = "unknown command; there are: disconnect, explain, handover, reload, status"
NOT_COMMANDS = {
    "nothing": (b"", "the request is not a line"),
    "half a line": (b'{"command": "status"}', "the request is not a line"),
    "no JSON": (b"status\n", "the request is not JSON"),
    "not UTF-8": (b'{"command": "\xff"}\n', "the request is not JSON"),
    "brackets": (b"[" * 100_000 + b"\n", "the request is not JSON"),
    "digits": (b"1" * 100_000 + b"\n", "the request is not JSON"),
    "a list": (b"[]\n", "the request is not a JSON object"),
    "no command": (b"{}\n", UNKNOWN),
    "an unknown command": (
        b'{"command": "halt"}\n',
        UNKNOWN,
    ),
    "a command in a list": (
        b'{"command": ["status"]}\n',
        UNKNOWN,
    ),
    "a dunder": (
        b'{"command": "__class__"}\n',
        UNKNOWN,
    ),
    "a line without end": (b"x" * 300_000, "the request is longer than 262144 bytes"),
}


@pytest.mark.parametrize(("data", "error"), NOT_COMMANDS.values(), ids=NOT_COMMANDS)
async def test_garbage_at_the_control_socket(attack: Attack, data: bytes, error: str) -> None:
    """What is no command is answered with what is wrong, and does nothing."""
    try:
        assert json.loads(await control(attack.house, data)) == {"error": error}
    except ConnectionError:
        # It hung up while most of that line was still on its way.
        assert len(data) > 262_144
    await attack.logged()


NOT_EXPLAINED = {
    "nothing": ({}, "say which event: its id in the stream, or itself"),
    "a number": ({"id": 7}, "say which event"),
    "an object": ({"event": {}}, "say which event"),
    "half a character": ({"event": '{"n": "\ud800"}'}, "every daemon rejects it: not UTF-8"),
    "a deep rule": ({"event": "{}", "to": "[" * 100_000}, "every daemon rejects it"),
    "no id": ({"id": "9" * 100_000}, "an id of the stream is like"),
    "a user": ({"event": "{}", "users": "7"}, "users must be a list of primary keys"),
    "numbers": ({"event": "{}", "users": [7]}, "users must be a list of primary keys"),
}


@pytest.mark.parametrize(("question", "words"), NOT_EXPLAINED.values(), ids=NOT_EXPLAINED)
async def test_nonsense_to_explain(attack: Attack, question: Any, words: str) -> None:
    """What is no event to explain is refused in words."""
    request = json.dumps({"command": "explain", **question}).encode() + b"\n"
    assert words in json.loads(await control(attack.house, request))["error"]
    await attack.logged("control.command")


# Asks nothing: the answer depends on who connects.
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    print(sock.recv(4096).decode())
"""


def set_mode(path: Path, mode: int) -> None:
    """Change who may use a file."""
    path.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_somebody_else_at_the_control_socket(attack: Attack) -> None:
    """Other users can't open the socket, and if somebody changes its mode, are still refused."""
    path = Path(attack.house.daemon.environment["NOTIFYD_CONTROL_SOCKET"])

    async def ask() -> subprocess.CompletedProcess[str]:
        command = ["/usr/bin/python3", "-c", ASK, str(path)]
        return await asyncio.to_thread(
            subprocess.run, command, user="nobody", capture_output=True, text=True, check=False
        )

    set_mode(path.parent, 0o755)
    assert "PermissionError" in (await ask()).stderr
    set_mode(path, 0o666)
    try:
        answer = json.loads((await ask()).stdout)
    finally:
        set_mode(path, 0o600)
    assert answer == {"error": "only root and the daemon's own user may use the control socket"}
    await attack.logged()
