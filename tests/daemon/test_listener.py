from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from waiting import until

from notifyd.daemon import listener
from notifyd.daemon.listener import Listener, ListenError, bind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Accepted = list[tuple[socket.socket, str]]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Close what a test opens."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def accepted(stack: contextlib.ExitStack) -> Accepted:
    """Collect what listeners give away."""
    accepted: Accepted = []

    def close() -> None:
        for sock, _ in accepted:
            sock.close()

    stack.callback(close)
    return accepted


def listen(sock: socket.socket, accepted: Accepted, stack: contextlib.ExitStack) -> Listener:
    """Open a listener that gives its connections to the list."""
    opened = Listener(sock, lambda sock, peer: accepted.append((sock, peer)))
    stack.callback(opened.close)
    return opened


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, str]) -> None:
    """Have every host resolve to these families and addresses, as /etc/hosts might say."""

    def getaddrinfo(_host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (family, 1, 6, "", (address, port, 0, 0)[: 2 if family == socket.AF_INET else 4])
            for family, address in answers
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


BOTH = ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_accepts(host: str, accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """A connection is given away as a socket that doesn't block, with the peer's address."""
    [sock] = bind(host, 0, None)
    listen(sock, accepted, stack)
    client = stack.enter_context(socket.create_connection(sock.getsockname()[:2]))
    await until(lambda: accepted)
    assert accepted[0][1] == host
    assert accepted[0][0].getpeername()[1] == client.getsockname()[1]
    assert not accepted[0][0].getblocking()


async def test_accepts_a_crowd(accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """However many connect at once, all are accepted, in several turns of the loop."""
    [sock] = bind("127.0.0.1", 0, None)
    listen(sock, accepted, stack)
    for _ in range(150):
        stack.enter_context(socket.create_connection(sock.getsockname()))
    await asyncio.sleep(0)
    assert len(accepted) < 150
    await until(lambda: len(accepted) == 150)


async def test_addresses(folder: Path, accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """The address is told in the form of the configuration."""
    socks = [*bind("127.0.0.1", 0, None), *bind("::1", 0, None), *bind(None, 0, f"{folder}/s")]
    ports = [sock.getsockname()[1] for sock in socks[:2]]
    addresses = [listen(sock, accepted, stack).address for sock in socks]
    assert addresses == [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{folder}/s"]


def test_both_families(monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
    """A host with addresses in both families is listened to in both, at one port."""
    resolve(monkeypatch, *BOTH, BOTH[0])
    socks = [stack.enter_context(sock) for sock in bind("www.example", 0, None)]
    assert [sock.getsockname()[0] for sock in socks] == ["::1", "127.0.0.1"]
    assert socks[0].getsockname()[1] == socks[1].getsockname()[1]


def test_localhost(stack: contextlib.ExitStack) -> None:
    """By localhost both families are meant, also where the resolver knows only one."""
    socks = [stack.enter_context(sock) for sock in bind("localhost", 0, None)]
    assert {sock.getsockname()[0] for sock in socks} == {"::1", "127.0.0.1"}
    assert len({sock.getsockname()[1] for sock in socks}) == 1


def test_everywhere(stack: contextlib.ExitStack) -> None:
    """Without a host every address of both families is listened to, at one port."""
    socks = [stack.enter_context(sock) for sock in bind(None, 0, None)]
    assert {sock.getsockname()[0] for sock in socks} == {"0.0.0.0", "::"}
    assert len({sock.getsockname()[1] for sock in socks}) == 1


@pytest.mark.parametrize(
    "absent", [(socket.AF_INET6, "2001:db8::1"), (socket.AF_X25, "::1")], ids=["address", "family"]
)
def test_without_ipv6(
    absent: tuple[int, str], monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> None:
    """A host that resolves to a family which the machine doesn't have is served in the other."""
    resolve(monkeypatch, absent, BOTH[1])
    socks = [stack.enter_context(sock) for sock in bind("www.example", 0, None)]
    assert [sock.getsockname()[0] for sock in socks] == ["127.0.0.1"]


def test_foreign_address() -> None:
    """An address that isn't this machine's is refused."""
    with pytest.raises(ListenError, match=r"^can't listen on 192\.0\.2\.1:0: Cannot assign"):
        bind("192.0.2.1", 0, None)


def test_unknown_host() -> None:
    """A host that can't be resolved is refused, with the resolver's words."""
    with pytest.raises(ListenError, match=r"^can't listen on no host:8888: \w+"):
        bind("no host", 8888, None)


def test_port_in_use(stack: contextlib.ExitStack) -> None:
    """Whoever finds the port taken is told what to do."""
    [sock] = bind("127.0.0.1", 0, None)
    stack.enter_context(sock)
    port = sock.getsockname()[1]
    words = f"can't listen on 127.0.0.1:{port}: another program listens there: stop it, or change"
    with pytest.raises(ListenError, match=words):
        bind("127.0.0.1", port, None)


def test_port_in_use_in_one_family(
    monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> None:
    """A port is not served in one family while it is somebody else's in the other."""
    [sock] = bind("127.0.0.1", 0, None)
    stack.enter_context(sock)
    resolve(monkeypatch, *BOTH)
    with pytest.raises(ListenError, match="another program"):
        bind("www.example", sock.getsockname()[1], None)


def test_no_port_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another port is chosen where one is taken at the next address, but not for ever."""
    resolve(monkeypatch, BOTH[1], (socket.AF_INET, "0.0.0.0"))
    with pytest.raises(ListenError, match=r"can't listen on www\.example:0: another program"):
        bind("www.example", 0, None)


def test_port_for_all(stack: contextlib.ExitStack) -> None:
    """A free port is found, however many are taken in one of the families."""
    for _ in range(500):
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
    for _ in range(100):
        for sock in bind("localhost", 0, None):
            sock.close()


async def test_unix_socket(folder: Path, accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """Everybody may connect to the Unix socket, and it is removed in the end."""
    path = folder / "s"
    [sock] = bind(None, 0, str(path))
    opened = listen(sock, accepted, stack)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
    await until(lambda: accepted)
    assert accepted[0][1] == "unix"
    opened.close()
    assert not path.exists()


def test_stale_unix_socket(folder: Path, stack: contextlib.ExitStack) -> None:
    """A Unix socket whose process is dead is replaced."""
    path = str(folder / "s")
    bind(None, 0, path)[0].close()
    [sock] = bind(None, 0, path)
    stack.enter_context(sock)
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)


def test_live_unix_socket(folder: Path, stack: contextlib.ExitStack) -> None:
    """A Unix socket that somebody serves is left alone."""
    path = str(folder / "s")
    stack.enter_context(bind(None, 0, path)[0])
    with pytest.raises(ListenError, match=f"can't listen on unix:{path}: another program"):
        bind(None, 0, path)
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)


def test_busy_unix_socket(folder: Path, stack: contextlib.ExitStack) -> None:
    """A Unix socket whose queue is full is somebody's, too, and nobody waits for it."""
    path = str(folder / "s")
    [sock] = bind(None, 0, path)
    stack.enter_context(sock).listen(0)
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
    with pytest.raises(ListenError, match="another program"):
        bind(None, 0, path)


def test_unix_socket_in_the_place_of_a_file(folder: Path) -> None:
    """A file that is no socket is never removed."""
    (folder / "s").write_text("precious")
    with pytest.raises(ListenError, match="another program"):
        bind(None, 0, str(folder / "s"))
    assert (folder / "s").read_text() == "precious"


def test_missing_directory(folder: Path) -> None:
    """Whoever names a directory that isn't there is told so."""
    with pytest.raises(ListenError, match="the directory does not exist"):
        bind(None, 0, f"{folder}/missing/s")


def test_forbidden_directory(folder: Path) -> None:
    """Whoever may not listen there is told what it takes."""
    me = os.geteuid()
    folder.chmod(0o500)
    if me == 0:
        # Nothing is forbidden to root.
        os.seteuid(65534)
    try:
        with pytest.raises(ListenError, match=r"not permitted: .* Unix sockets a directory"):
            bind(None, 0, f"{folder}/s")
    finally:
        os.seteuid(me)
        folder.chmod(0o700)


def test_long_path(folder: Path) -> None:
    """A fault that has no number is told in its words."""
    with pytest.raises(ListenError, match="AF_UNIX path too long"):
        bind(None, 0, f"{folder}/{'s' * 200}")


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up every descriptor that this process may have (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[0] + 10, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        yield
    finally:
        for number in spare:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors(accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """Without a descriptor to accept with, the listener rests, says so once, and recovers."""
    [sock] = bind("127.0.0.1", 0, None)
    opened = listen(sock, accepted, stack)
    client = stack.enter_context(socket.socket())
    with capture_logs() as logs, no_descriptors():
        client.connect(sock.getsockname())
        await until(lambda: logs)
    words = {"address": opened.address, "error": "Too many open files", "retry_in": 1.0}
    assert logs == [{"event": "listener.paused", "log_level": "error"} | words]
    assert accepted == []
    await until(lambda: accepted)


async def test_closed_while_resting(
    accepted: Accepted, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that is closed while it rests does not come back."""
    monkeypatch.setattr(listener, "_PAUSE", 0.01)
    [sock] = bind("127.0.0.1", 0, None)
    opened = listen(sock, accepted, stack)
    client = stack.enter_context(socket.socket())
    with capture_logs() as logs, no_descriptors():
        client.connect(sock.getsockname())
        await until(lambda: logs)
    opened.close()
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    end = loop.time() + 2 * listener._PAUSE
    await until(lambda: loop.time() > end)
    assert (accepted, errors) == ([], [])


async def test_detached(accepted: Accepted, stack: contextlib.ExitStack) -> None:
    """A socket that was detached goes on listening, for somebody else, also when it is closed."""
    [sock] = bind("127.0.0.1", 0, None)
    stack.callback(sock.close)
    opened = listen(sock, accepted, stack)
    assert opened.detach() is sock
    opened.close()
    with socket.create_connection(sock.getsockname()) as client:
        other, _ = sock.accept()
        other.send(b"x")
        assert client.recv(1) == b"x"
        other.close()
    assert accepted == []


async def test_lent(folder: Path, accepted: Accepted) -> None:
    """The file of a socket that is only lent stays when the listener is closed."""
    [sock] = bind(None, 0, str(folder / "public"))
    opened = Listener(sock, lambda sock, peer: accepted.append((sock, peer)), lent=True)
    opened.close()
    assert (folder / "public").is_socket()


def test_inherited(folder: Path, stack: contextlib.ExitStack) -> None:
    """Where an inherited socket listens already it is taken, by TCP and by path."""
    for sock in (*bind("127.0.0.1", 0, None), *bind(None, 0, str(folder / "public"))):
        stack.enter_context(sock)
        address = sock.getsockname()
        where = (None, 0, address) if isinstance(address, str) else (*address, None)
        assert bind(*where, inherited=[sock]) == [sock]


def test_shared_port(stack: contextlib.ExitStack) -> None:
    """With `reuse_port` two sockets listen at one port, and without it the second is refused."""
    [first] = bind("127.0.0.1", 0, None, reuse_port=True)
    stack.enter_context(first)
    port = first.getsockname()[1]
    [second] = bind("127.0.0.1", port, None, reuse_port=True)
    stack.enter_context(second)
    with pytest.raises(ListenError, match="reuse_port"):
        bind("127.0.0.1", port, None)
