from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from notifyd.daemon import systemd_sockets
from notifyd.daemon.systemd_sockets import Passed

if TYPE_CHECKING:
    from pathlib import Path

# What a process says that was given descriptors as systemd gives them.
TOLD = """
import os, socket
from notifyd.daemon.systemd_sockets import Passed
passed = Passed(os.environ, os.getpid())
print(sorted(passed.names), "LISTEN_FDS" in os.environ)
[public] = passed.sockets("public")
print(public.getsockname()[1], public.gettimeout(), os.get_inheritable(public.fileno()))
print(passed.names, passed.sockets("public"))
passed.close()
print(passed.names)
"""


def test_by_name() -> None:
    """Sockets are found by the names of their units, whatever their order, and once."""
    with (
        socket.create_server(("127.0.0.1", 0)) as admin,
        socket.create_server(("127.0.0.1", 0)) as public,
    ):
        port = public.getsockname()[1]

        def give() -> None:
            os.dup2(admin.fileno(), 3)
            os.dup2(public.fileno(), 4)
            os.environ["LISTEN_PID"] = str(os.getpid())

        environ = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "admin:public"}
        done = subprocess.run(
            [sys.executable, "-c", f"import os\nos.environ['LISTEN_PID'] = str(os.getpid()){TOLD}"],
            env=environ,
            preexec_fn=give,
            pass_fds=(3, 4),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines() == [
        "['admin', 'public'] False",
        f"{port} 0.0 False",
        "['admin'] []",
        "[]",
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "many"},
        {"LISTEN_PID": "7"},
    ],
)
def test_nothing_for_us(environ: dict[str, str]) -> None:
    """What was passed to another process, or can't be read, is nothing; the variables are gone."""
    passed = Passed(environ, 7)
    assert passed.names == []
    assert passed.take("public") == []
    assert environ == {}


def test_without_names(tmp_path: Path) -> None:
    """A descriptor without a name has the one that systemd gives it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from notifyd.daemon.systemd_sockets import Passed\n"
        "environ = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "print(Passed(environ, os.getpid()).names)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        done = subprocess.run(
            [sys.executable, str(script)],
            preexec_fn=lambda: os.dup2(sock.fileno(), 3),
            pass_fds=(3,),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "['unknown']\n"


def test_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens for streams is told from what doesn't: datagrams, pipes, mere connections."""
    sockets = [
        *(socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))),
        *(socket.socket(type=socket.SOCK_DGRAM), *socket.socketpair()),
    ]
    first = max(sock.fileno() for sock in sockets) + 100
    for number, sock in enumerate(sockets):
        os.dup2(sock.fileno(), first + number)
        sock.close()
    reading, writing = os.pipe()
    os.dup2(reading, first + len(sockets))
    os.close(reading)
    os.close(writing)
    monkeypatch.setattr(systemd_sockets, "_FIRST", first)
    names = "public:admin:datagrams:connection:admin:pipe"
    passed = Passed({"LISTEN_PID": "7", "LISTEN_FDS": "6", "LISTEN_FDNAMES": names}, 7)
    found = passed.listeners()
    assert {name: len(each) for name, each in found.items()} == {"public": 1}
    assert passed.names == ["admin", "datagrams", "connection", "pipe"]
    found["public"][0].close()
    passed.close()
