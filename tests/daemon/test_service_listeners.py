from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from notifyd.core.options import Admin, Config, Server
from notifyd.daemon import systemd_sockets
from notifyd.daemon.config import ConfigError
from notifyd.daemon.endpoints import Endpoints
from notifyd.daemon.service_listeners import Listeners
from notifyd.daemon.systemd_sockets import Passed

if TYPE_CHECKING:
    from collections.abc import Callable

    Give = Callable[..., Passed]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Return what systemd passes: sockets by their names, in this order."""

    def give(*sockets: tuple[str, socket.socket]) -> Passed:
        # Their numbers follow each other, as those of systemd do.
        first = max((sock.fileno() for _, sock in sockets), default=0) + 100
        for number, (_, sock) in enumerate(sockets):
            os.dup2(sock.fileno(), first + number)
            sock.close()
        monkeypatch.setattr(systemd_sockets, "_FIRST", first)
        environ = {
            "LISTEN_PID": "7",
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in sockets),
        }
        return Passed(environ, 7)

    return give


def config(*listen: str, admin: str = "127.0.0.1:0") -> Config:
    """Return a configuration."""
    return Config(server=Server(listen=listen), admin=Admin(listen=admin))


@contextlib.asynccontextmanager
async def opened(configuration: Config, passed: Passed, *inherited: socket.socket) -> Any:
    """Open everything, and give the listeners and the admin endpoints."""
    endpoints = Endpoints(render=lambda _: (b"", ""), ready=dict, details=dict)
    listeners = Listeners(configuration, passed, inherited)

    def accepted(sock: socket.socket, _peer: str) -> None:
        sock.close()

    async with contextlib.AsyncExitStack() as stack:
        await listeners.open(stack, endpoints, accepted)
        yield listeners, endpoints


async def reached(port: int) -> bool:
    """Connect, and tell whether the connection is accepted, and so closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return ended


async def test_by_name(give: Give) -> None:
    """Both are found by the names of their units."""
    admin, public = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    ports = public.getsockname()[1], admin.getsockname()[1]
    passed = give(("admin", admin), ("public", public))
    async with opened(config("systemd:public", admin="systemd:admin"), passed) as (it, endpoints):
        assert [each.address for each in it.public] == [f"127.0.0.1:{ports[0]}"]
        assert endpoints.address == f"127.0.0.1:{ports[1]}"
        assert await reached(ports[0])


async def test_by_address(give: Give) -> None:
    """A socket that is open at an address of the configuration is taken there."""
    admin, public = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (public, admin)]
    passed = give(("admin", admin), ("public", public))
    with capture_logs() as logs:
        async with opened(config(addresses[0], admin=addresses[1]), passed) as (it, endpoints):
            assert [each.address for each in it.public] == [addresses[0]]
            assert endpoints.address == addresses[1]
    assert not [line for line in logs if line["event"] == "listener.unused"]


async def test_no_such_name(give: Give) -> None:
    """A name that systemd has not passed is a fault that names those it has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        passed = give(("pubic", sock))
        with pytest.raises(ConfigError, match=r"systemd:public.*there is: pubic"):
            async with opened(config("systemd:public"), passed):
                pass
    with pytest.raises(ConfigError, match="none at all"):
        async with opened(config("systemd:public"), give()):
            pass


async def test_unused(give: Give) -> None:
    """A socket at which nothing listens is named in a warning, and closed."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with capture_logs() as logs:
        async with opened(config("127.0.0.1:0"), give(("other", sock))):
            with pytest.raises(OSError, match="Connect"):
                await reached(port)
    [line] = [line for line in logs if line["event"] == "listener.unused"]
    assert (line["name"], line["log_level"]) == ("other", "warning")


async def test_of_a_predecessor(give: Give) -> None:
    """A socket of the predecessor is taken at its address."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    port = sock.getsockname()[1]
    async with opened(config(f"127.0.0.1:{port}"), give(), sock):
        assert await reached(port)


async def test_admin_by_path(give: Give, folder: Any) -> None:
    """The admin endpoints take a Unix socket of systemd's, too."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "admin"))
    sock.listen()
    passed = give(("admin", sock))
    async with opened(config("127.0.0.1:0", admin="systemd:admin"), passed) as (_, endpoints):
        assert endpoints.address == f"unix:{folder}/admin"
    assert (folder / "admin").is_socket()


async def test_admin_at_several(give: Give) -> None:
    """The admin endpoints take every socket that has their name, and tell all addresses."""
    sock = socket.create_server(("127.0.0.1", 0))
    other = socket.create_server(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in (sock, other)]
    passed = give(("admin", sock), ("admin", other))
    async with opened(config("127.0.0.1:0", admin="systemd:admin"), passed) as (_, endpoints):
        assert endpoints.address == f"127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}"
        for port in ports:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: notifyd\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()


async def test_meant_twice(give: Give) -> None:
    """A socket that is meant by its name and by its address is taken once."""
    sock = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    configuration = config("systemd:public", address)
    async with opened(configuration, give(("public", sock))) as (listeners, _):
        assert [each.address for each in listeners.public] == [address]


async def test_no_listener(give: Give) -> None:
    """What is passed and doesn't listen is named in a warning, and no name to listen at."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    passed = give(("public", sock))
    with capture_logs() as logs:
        async with opened(config("127.0.0.1:0"), passed):
            assert passed.names == []
    assert [line["name"] for line in logs if line["event"] == "listener.unused"] == ["public"]
    passed = give(("public", socket.socket(type=socket.SOCK_DGRAM)))
    with pytest.raises(ConfigError, match="none at all"):
        async with opened(config("systemd:public"), passed):
            pass
    passed.close()
