from __future__ import annotations

import asyncio
import email
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from structlog.testing import capture_logs
from waiting import until

from notifyd.daemon import endpoints
from notifyd.daemon.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from email.message import Message
    from pathlib import Path


class Answer(NamedTuple):
    """A response, taken apart by somebody else's parser."""

    status: str
    headers: Message
    body: bytes


def render(accept: str) -> tuple[bytes, str]:
    """Return metrics that show what was asked for."""
    return f"accept={accept}".encode(), "text/x-metrics"


def nothing_fails() -> Mapping[str, str]:
    """Find everything in order."""
    return {}


def everything() -> Mapping[str, Any]:
    """Tell more of the same."""
    return {"failing": {}, "checks": {"redis": "ok"}}


@asynccontextmanager
async def serving(**options: object) -> AsyncIterator[Endpoints]:
    """Serve the endpoints on a free port."""
    whole = {"render": render, "ready": nothing_fails, "details": everything, **options}
    server = Endpoints(**whole)  # type: ignore[arg-type] # the options are its own
    await server.start(host="127.0.0.1")
    try:
        yield server
    finally:
        await server.close()


async def connect(server: Endpoints) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the endpoints."""
    kind, _, path = server.address.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(path)
    host, _, port = server.address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def send(server: Endpoints, data: bytes) -> bytes:
    """Send raw bytes and return all that comes back."""
    reader, writer = await connect(server)
    writer.write(data)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def request(server: Endpoints, line: str, *headers: str) -> Answer:
    """Send a request and return the answer."""
    lines = [f"{line} HTTP/1.1", "Host: localhost", *headers, "", ""]
    head, _, body = (await send(server, "\r\n".join(lines).encode())).partition(b"\r\n\r\n")
    status, _, fields = head.decode().partition("\r\n")
    return Answer(status, email.message_from_string(fields), body)


async def test_livez() -> None:
    """The daemon lives as long as its event loop turns, whatever else fails."""
    async with serving(ready=lambda: {"redis": "down"}) as server:
        answer = await request(server, "GET /livez")
        assert (answer.status, answer.body) == ("HTTP/1.1 200 OK", b"ok")


async def test_ready() -> None:
    """The daemon is ready when no check fails."""
    async with serving() as server:
        answer = await request(server, "GET /readyz")
        assert (answer.status, answer.body) == ("HTTP/1.1 200 OK", b"ok")


async def test_not_ready() -> None:
    """The daemon is not ready when a check fails; the answer names it, with the reason in words."""
    async with serving(ready=lambda: {"redis": "down for 7 s"}) as server:
        answer = await request(server, "GET /readyz")
        assert answer.status == "HTTP/1.1 503 Service Unavailable"
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(answer.body) == {"failing": {"redis": "down for 7 s"}}


@pytest.mark.parametrize("query", ["verbose", "verbose=1", "a=b&verbose"])
async def test_ready_in_detail(query: str) -> None:
    """Whoever asks for it is told every check, and more, as JSON."""
    async with serving() as server:
        answer = await request(server, f"GET /readyz?{query}")
        assert answer.status == "HTTP/1.1 200 OK"
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(answer.body) == everything()


async def test_not_ready_in_detail() -> None:
    """Asked for details the answer has the same status code as without."""
    failing = {"failing": {"redis": "away for 7 s"}}
    async with serving(details=lambda: failing) as server:
        answer = await request(server, "GET /readyz?verbose")
        assert answer.status == "HTTP/1.1 503 Service Unavailable"
        assert json.loads(answer.body) == failing


async def test_metrics() -> None:
    """The metrics come in the format that the request asks for, in one header or several."""
    async with serving() as server:
        answer = await request(server, "GET /metrics", "Accept: a/b", "Accept: c/d")
        assert answer.body == b"accept=a/b, c/d"
        assert answer.headers["Content-Type"] == "text/x-metrics"


async def test_metrics_for_whoever_does_not_care() -> None:
    """A request need not say what it accepts."""
    async with serving() as server:
        assert (await request(server, "GET /metrics")).body == b"accept="


async def test_head() -> None:
    """HEAD is GET without the body."""
    async with serving() as server:
        answer = await request(server, "HEAD /metrics")
        assert answer.status == "HTTP/1.1 200 OK"
        assert answer.headers["Content-Length"] == str(len(b"accept="))
        assert answer.body == b""


async def test_query_is_ignored() -> None:
    """Elsewhere what follows a question mark chooses nothing."""
    async with serving() as server:
        assert (await request(server, "GET /livez?verbose=1")).body == b"ok"


async def test_connection_is_closed_after_the_answer() -> None:
    """A connection serves one request, and nobody may keep the answer."""
    async with serving() as server:
        headers = (await request(server, "GET /livez", "Connection: keep-alive")).headers
        assert (headers["Connection"], headers["Cache-Control"]) == ("close", "no-store")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/livez/..", "*", "http://localhost/livez"])
async def test_other_paths(path: str) -> None:
    """There is nothing anywhere else."""
    async with serving() as server:
        assert (await request(server, f"GET {path}")).status == "HTTP/1.1 404 Not Found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
async def test_other_methods(method: str) -> None:
    """There is nothing to do but to look."""
    async with serving() as server:
        answer = await request(server, f"{method} /metrics")
        assert answer.status == "HTTP/1.1 405 Method Not Allowed"
        assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/2.0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500 + b"\n",
        b"\0" * 100_000,
    ],
    ids=[
        "no request",
        "HTTP/0.9",
        "HTTP/2",
        "bad header",
        "chunked",
        "not ASCII",
        "long line",
        "many headers",
        "TLS",
        "zeros",
    ],
)
async def test_malformed(data: bytes) -> None:
    """What is no request is answered with 400, and the sender reads it whatever else it sends."""
    async with serving() as server:
        answer = await send(server, data)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Traceback" not in answer


async def test_request_in_pieces() -> None:
    """A request may arrive byte by byte."""
    async with serving() as server:
        reader, writer = await connect(server)
        for byte in b"GET /livez HTTP/1.0\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).endswith(b"\r\n\r\nok")
        writer.close()
        await writer.wait_closed()


async def test_rest_is_ignored() -> None:
    """What follows the request is read and forgotten."""
    async with serving() as server:
        answer = await send(server, b"GET /livez HTTP/1.1\r\n\r\n" + b"\x81\x80junk" * 50_000)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b"HTTP/1.1") == 1


async def test_request_is_cut_off() -> None:
    """A peer that stops in the middle of its request is told so."""
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(b"GET /livez HT")
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
        await writer.wait_closed()


async def test_request_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not complete in its time is dropped."""
    monkeypatch.setattr(endpoints, "DEADLINE", 0.05)
    async with serving() as server:
        assert await send(server, b"GET /livez HTTP/1.1\r\n") == b""


async def test_answer_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that doesn't read its answer is dropped in time too."""
    monkeypatch.setattr(endpoints, "DEADLINE", 0.05)
    async with serving(render=lambda _accept: (b"x" * 50_000_000, "text/plain")) as server:
        _, writer = await connect(server)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: server._exchanges)
        await until(lambda: not server._exchanges)
        writer.transport.abort()


async def test_peer_vanishes() -> None:
    """A peer that resets its connection leaves nothing behind."""
    async with serving() as server:
        _, writer = await connect(server)
        await until(lambda: server._exchanges)
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await until(lambda: not server._exchanges)


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than there is room for are turned away."""
    monkeypatch.setattr(endpoints, "MOST", 1)
    async with serving() as server:
        _, first = await connect(server)
        await until(lambda: server._exchanges)
        assert (await send(server, b"")).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        first.close()
        await first.wait_closed()
        await until(lambda: not server._exchanges)
        assert (await request(server, "GET /livez")).body == b"ok"


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
async def test_failure_is_logged_not_told(path: str) -> None:
    """What fails behind an endpoint is in the log; the peer learns no more than that."""

    def fail(*_: str) -> None:
        raise ValueError("hunter2")

    with capture_logs() as lines:
        async with serving(render=fail, ready=fail) as server:
            answer = await request(server, f"GET {path}")
    assert answer.status == "HTTP/1.1 500 Internal Server Error"
    assert b"hunter2" not in answer.body
    assert [(line["event"], line["path"]) for line in lines] == [("endpoint.failed", path)]


async def test_ipv6() -> None:
    """An IPv6 address is written in brackets."""
    server = Endpoints(render=render, ready=nothing_fails, details=everything)
    await server.start(host="::1")
    assert server.address.startswith("[::1]:")
    assert (await request(server, "GET /livez")).body == b"ok"
    await server.close()


async def test_unix_socket(folder: Path) -> None:
    """On a Unix socket all is the same, and its file is removed at the end."""
    server = Endpoints(render=render, ready=nothing_fails, details=everything)
    await server.start(path=str(folder / "admin"))
    assert server.address == f"unix:{folder}/admin"
    assert (await request(server, "GET /livez")).body == b"ok"
    await server.close()
    assert not (folder / "admin").exists()


async def test_file_of_another_daemon_is_kept(folder: Path) -> None:
    """A socket that somebody else has put in our place is not removed."""
    server = Endpoints(render=render, ready=nothing_fails, details=everything)
    await server.start(path=str(folder / "admin"))
    (folder / "admin").rename(folder / "moved")
    (folder / "admin").touch()
    await server.close()
    assert (folder / "admin").exists()


async def test_file_that_is_gone(folder: Path) -> None:
    """A socket that somebody else has removed is no reason to fail."""
    server = Endpoints(render=render, ready=nothing_fails, details=everything)
    await server.start(path=str(folder / "admin"))
    (folder / "admin").unlink()
    await server.close()


async def test_address_is_taken() -> None:
    """An address that is taken can't be listened on."""
    async with serving() as server:
        other = Endpoints(render=render, ready=nothing_fails, details=everything)
        with pytest.raises(OSError, match="address already in use"):
            await other.start(host="127.0.0.1", port=int(server.address.rpartition(":")[2]))
        await other.close()


async def test_closed_while_somebody_waits() -> None:
    """Closing drops whoever is connected, and may be done twice."""
    async with serving() as server:
        reader, writer = await connect(server)
        await until(lambda: server._exchanges)
        await server.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
