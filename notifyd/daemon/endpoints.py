"""The admin endpoints over HTTP: /metrics, /livez and /readyz.

One request per connection. websockets' Sans-I/O parser reads it, as it reads those of clients.
"""

from __future__ import annotations

import asyncio
import email.utils
import http
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import structlog
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from notifyd.core.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()

DEADLINE: Final = 5.0
"""Seconds in which a request must be complete, and again in which its answer must be taken."""

MOST: Final = 32
"""Connections at a time: some monitoring systems and people, never the public."""

_READ: Final = 65_536
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


class Endpoints:
    """The admin listener.

    `render` takes an Accept header and returns the metrics and their content type. `ready` returns
    the checks that fail, each with the reason in words; none means ready. `details` returns what
    `/readyz?verbose` tells of them and more, with `failing` as `ready` returns it.
    """

    def __init__(
        self,
        *,
        render: Callable[[str], tuple[bytes, str]],
        ready: Callable[[], Mapping[str, str]],
        details: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._render = render
        self._ready = ready
        self._details = details
        self._servers: list[asyncio.Server] = []
        self._file: Path | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(
        self,
        *,
        host: str | None = None,
        port: int = 0,
        path: str | None = None,
        lent: Sequence[socket.socket] = (),
    ) -> None:
        """Listen on a host and port, on a Unix socket, or on those that somebody else has opened.

        `address` then says where. Port 0 is any free one. Raises OSError where that address is not
        to be had.
        """
        if lent:
            # Not start_unix_server, also where they are Unix sockets: it would remove their files
            # at the end (since Python 3.13).
            for sock in lent:
                self._servers.append(await asyncio.start_server(self._connected, sock=sock))
        elif path is not None:
            self._servers.append(await asyncio.start_unix_server(self._connected, path))
            self._file = Path(path)
            self._status = self._file.stat()
        else:
            self._servers.append(await asyncio.start_server(self._connected, host, port))
        self.address = ", ".join(_address(server.sockets[0]) for server in self._servers)

    async def close(self) -> None:
        """Stop listening and drop whoever is still connected; may be called again."""
        self._remove_file()
        for server in self._servers:
            server.close()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _remove_file(self) -> None:
        # Another daemon may have put a socket of its own there since.
        if self._file is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(self._file.stat(), self._status):
                    self._file.unlink()
            self._file = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= MOST:
            writer.write(_response(503, b"too many connections\n").serialize())
            writer.close()
            return
        exchange = asyncio.ensure_future(self._exchange(reader, writer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        # Not at the end of the exchange itself: one that is cancelled before it begins has none.
        exchange.add_done_callback(lambda _: writer.transport.abort())

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                request = await _receive(reader)
            writer.write(self._answer(request).serialize())
            async with asyncio.timeout(DEADLINE):
                await writer.drain()
                writer.write_eof()
                # Closing with something unread would reset the connection, and the answer with
                # it: what else the peer sends is read until it closes its side.
                while await reader.read(_READ):
                    pass
        except OSError:
            # The peer vanished or dawdled: nothing that anybody could mend here.
            pass

    def _answer(self, request: Request | None) -> Response:
        if request is None:
            return _response(400, b"not a valid HTTP request\n")
        path = request.path.partition("?")[0]
        resource = {"/metrics": self._metrics, "/livez": self._livez, "/readyz": self._readyz}
        if path not in resource:
            response = _response(404, b"here are /metrics, /livez and /readyz\n")
        elif request.method not in {"GET", "HEAD"}:
            response = _response(405, b"only GET and HEAD\n")
            response.headers["Allow"] = "GET, HEAD"
        else:
            try:
                response = resource[path](request)
            except Exception:
                log.warning("endpoint.failed", path=path, exc_info=True)
                response = _response(500, b"failed; the log says why\n")
        if request.method == "HEAD":
            # The headers stay those of a GET (RFC 9110 section 9.3.2).
            response.body = b""
        return response

    def _metrics(self, request: Request) -> Response:
        body, content_type = self._render(", ".join(request.headers.get_all("Accept")))
        return _response(200, body, content_type)

    def _livez(self, _request: Request) -> Response:
        # That this line runs is the whole answer: the event loop turns.
        return _response(200, b"ok")

    def _readyz(self, request: Request) -> Response:
        if "verbose" in parse_qs(request.path.partition("?")[2], keep_blank_values=True):
            details = self._details()
            status = 503 if details["failing"] else 200
            return _response(status, json.dumps(details).encode() + b"\n", _JSON)
        failing = self._ready()
        if not failing:
            return _response(200, b"ok")
        return _response(503, json.dumps({"failing": dict(failing)}).encode(), _JSON)


def _address(sock: socket.socket) -> str:
    """Return where a socket listens, in the form of the configuration."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return str(Address(host=name[0], port=name[1]))


async def _receive(reader: asyncio.StreamReader) -> Request | None:
    """Return the request, None if there is no sense in what was sent."""
    parser = ServerProtocol()
    try:
        while True:
            data = await reader.read(_READ)
            if not data:
                return None
            parser.receive_data(data)
            if parser.handshake_exc is not None:
                return None
            for request in parser.events_received():
                assert isinstance(request, Request)
                return request
    finally:
        # The parser and its generator refer to each other.
        parser.parser.close()


def _response(status: int, body: bytes, content_type: str = _TEXT) -> Response:
    headers = Headers(
        {
            "Date": email.utils.formatdate(usegmt=True),
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Length": str(len(body)),
            "Content-Type": content_type,
        }
    )
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
