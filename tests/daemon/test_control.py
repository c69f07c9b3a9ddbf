from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from waiting import until

from notifyd.daemon import control
from notifyd.daemon.control import ControlError, ControlServer, ask, default_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


async def echo(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer with what was asked."""
    return {"asked": dict(arguments)}


async def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse in words."""
    raise ControlError("no such user: 7")


async def crash(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fail in an unforeseen way."""
    raise ValueError("hunter2")


async def babble(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer with what JSON doesn't have."""
    return {"answer": object()}


async def pause(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take for ever."""
    await asyncio.Event().wait()
    return {}


COMMANDS = {"echo": echo, "refuse": refuse, "crash": crash, "babble": babble, "pause": pause}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[ControlServer]:
    """Serve the commands at a path."""
    server = ControlServer(str(path), COMMANDS)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def send(path: Path, data: bytes) -> dict[str, Any]:
    """Send raw bytes and return the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    lines = answer.splitlines()
    assert len(lines) == 1
    found: dict[str, Any] = json.loads(lines[0])
    return found


async def test_command(folder: Path) -> None:
    """A command gets its arguments, and who asked gets the answer."""
    async with serving(folder / "control"):
        answer = await ask(str(folder / "control"), "echo", user="7", all=True)
        assert answer == {"asked": {"user": "7", "all": True}}


async def test_line_in_line_out(folder: Path) -> None:
    """On the wire, request and answer are one line of JSON each."""
    async with serving(folder / "control"):
        answer = await send(folder / "control", b'{"command": "echo", "n": 1}\n')
        assert answer == {"asked": {"n": 1}}


async def test_command_is_logged(folder: Path) -> None:
    """The log says which command came and from whom, without its arguments."""
    with capture_logs() as lines:
        async with serving(folder / "control"):
            await ask(str(folder / "control"), "echo", token="hunter2")
    (line,) = lines
    assert (line["event"], line["command"]) == ("control.command", "echo")
    assert (line["uid"], line["pid"]) == (os.getuid(), os.getpid())
    assert "hunter2" not in str(line)


async def test_unknown_command(folder: Path) -> None:
    """An unknown command is answered with those there are."""
    async with serving(folder / "control"):
        with pytest.raises(ControlError, match="unknown command; there are: babble, crash, echo"):
            await ask(str(folder / "control"), "nonsense")


async def test_refusal(folder: Path) -> None:
    """A command that can't do what it is asked says so to who asked."""
    async with serving(folder / "control"):
        with pytest.raises(ControlError, match="no such user: 7"):
            await ask(str(folder / "control"), "refuse")


@pytest.mark.parametrize("command", ["crash", "babble"])
async def test_crash(command: str, folder: Path) -> None:
    """What fails in an unforeseen way is in the log, and the daemon goes on."""
    with capture_logs() as lines:
        async with serving(folder / "control"):
            with pytest.raises(ControlError, match="failed: the daemon's log says why"):
                await ask(str(folder / "control"), command)
            assert await ask(str(folder / "control"), "echo")
    assert ("control.failed", command) in [(line["event"], line["command"]) for line in lines]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "the request is not a line"),
        (b'{"command": "echo"}', "the request is not a line"),
        (b"nonsense\n", "the request is not JSON"),
        (b"\xff\n", "the request is not JSON"),
        (b"[" * 100_000 + b"\n", "the request is not JSON"),
        (b"[]\n", "the request is not a JSON object"),
        (b"{}\n", "unknown command"),
        (b'{"command": ["echo"]}\n', "unknown command"),
    ],
)
async def test_malformed(data: bytes, error: str, folder: Path) -> None:
    """What is no request is answered with what is wrong with it."""
    async with serving(folder / "control"):
        assert (await send(folder / "control", data))["error"].startswith(error)


async def test_long_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is too long is refused, at both ends."""
    async with serving(folder / "control"):
        with pytest.raises(ControlError, match="longer than 262144 bytes"):
            await ask(str(folder / "control"), "echo", text="x" * 262_144)
    monkeypatch.setattr(control, "MAX_REQUEST", 1_000)
    async with serving(folder / "control"):
        answer = await send(folder / "control", b"x" * 2_000 + b"\n")
        assert answer["error"] == "the request is longer than 1000 bytes"


async def test_largest_event_fits(folder: Path) -> None:
    """An event of the largest size can be asked about, however it is escaped."""
    async with serving(folder / "control"):
        text = '"' * 65_536
        answer = await ask(str(folder / "control"), "echo", event=text)
        assert answer["asked"] == {"event": text}


async def test_request_takes_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing is told to be too late."""
    monkeypatch.setattr(control, "DEADLINE", 0.05)
    async with serving(folder / "control"):
        reader, writer = await asyncio.open_unix_connection(folder / "control")
        assert json.loads(await reader.read()) == {"error": "no request within 0.05 s"}
        writer.close()
        await writer.wait_closed()


async def test_answer_takes_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks doesn't wait for ever."""
    monkeypatch.setattr(control, "ANSWER_DEADLINE", 0.05)
    async with serving(folder / "control"):
        with pytest.raises(ControlError, match=r"did not answer within 0.05 s: see its log"):
            await ask(str(folder / "control"), "pause")


async def test_closed_while_a_command_runs(folder: Path) -> None:
    """Closing drops a command under way; who asked is told that there is no answer."""
    async with serving(folder / "control") as server:
        asking = asyncio.create_task(ask(str(folder / "control"), "pause"))
        await until(lambda: server._exchanges)
        await server.close()
        with pytest.raises(ControlError, match="gave no answer: see its log"):
            await asking


async def test_asker_leaves(folder: Path) -> None:
    """Who leaves before the answer leaves nothing behind."""
    async with serving(folder / "control") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / "control"))
            client.send(b'{"command": "echo"}\n')
        await until(lambda: not server._exchanges)
        assert await ask(str(folder / "control"), "echo")


async def test_only_its_user_can_connect(folder: Path) -> None:
    """The socket's file is for its owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        async with serving(folder / "control") as server:
            assert server.path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


async def test_stranger_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is neither root nor our user is refused, even if the file lets it pass."""
    async with serving(folder / "control") as server:
        with socket.socket(socket.AF_UNIX) as client:
            connect_as_stranger(client, server.path, monkeypatch)
            client.settimeout(10)
            client.send(b'{"command": "echo"}\n')
            answer = json.loads(await asyncio.to_thread(client.recv, 1_000))
    assert answer["error"] == "only root and the daemon's own user may use the control socket"


def connect_as_stranger(client: socket.socket, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect as another user than the daemon's: the kernel notes who we are at that moment."""
    path.parent.chmod(0o711)
    path.chmod(0o666)
    own = os.geteuid()
    if own:
        # Only root can become another user; for anybody else the daemon does.
        client.connect(str(path))
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        return
    os.seteuid(65_534)
    try:
        client.connect(str(path))
    finally:
        os.seteuid(own)


async def test_directory_is_made(folder: Path) -> None:
    """A directory that is missing is made, for our user alone."""
    async with serving(folder / "run" / "control"):
        assert (folder / "run").stat().st_mode & 0o777 == 0o700


async def test_stale_socket_is_replaced(folder: Path) -> None:
    """The socket of a daemon that died is replaced."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "control"))
    async with serving(folder / "control"):
        assert await ask(str(folder / "control"), "echo")


async def test_live_socket_is_kept(folder: Path) -> None:
    """The socket of a daemon that runs is kept; the newcomer is told what to do."""
    async with serving(folder / "control"):
        with pytest.raises(ControlError, match=r"another daemon listens at .*: stop it first"):
            await ControlServer(str(folder / "control"), {}).start()
        assert await ask(str(folder / "control"), "echo")


async def test_busy_socket_is_kept(folder: Path) -> None:
    """A daemon that is too busy to accept is alive all the same."""
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(folder / "control"))
        busy.listen(0)
        waiting.connect(str(folder / "control"))
        with pytest.raises(ControlError, match="another daemon listens"):
            await ControlServer(str(folder / "control"), {}).start()


async def test_other_files_are_kept(folder: Path) -> None:
    """A file that is no socket is never removed."""
    (folder / "control").write_text("precious")
    with pytest.raises(ControlError, match=r"can't listen at .* \(\[control\] socket\)"):
        await ControlServer(str(folder / "control"), {}).start()
    assert (folder / "control").read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 200, "file/control"])
async def test_impossible_path(name: str, folder: Path) -> None:
    """A path that can't be a socket's is a fault in words."""
    (folder / "file").touch()
    with pytest.raises(ControlError, match="can't listen at"):
        await ControlServer(str(folder / name), {}).start()


async def test_of_two_daemons_one_wins(folder: Path) -> None:
    """Of several daemons that start at once exactly one listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "control"))
    paths = [folder / "control"] * 8
    results = await asyncio.gather(
        *(asyncio.to_thread(control._bind, path) for path in paths), return_exceptions=True
    )
    sockets = [result for result in results if isinstance(result, socket.socket)]
    assert len(sockets) == 1
    assert all(isinstance(result, ControlError) for result in results if result not in sockets)
    sockets[0].close()


async def test_file_is_removed_at_the_end(folder: Path) -> None:
    """Closing removes the socket's file, and may be done twice."""
    async with serving(folder / "control") as server:
        await server.close()
        assert not server.path.exists()


async def test_file_of_another_daemon_is_kept(folder: Path) -> None:
    """A socket that somebody else has put in our place is not removed."""
    async with serving(folder / "control") as server:
        server.path.rename(folder / "moved")
        server.path.touch()
        await server.close()
        assert server.path.exists()


async def test_file_that_is_gone(folder: Path) -> None:
    """A socket that somebody else has removed is no reason to fail."""
    async with serving(folder / "control") as server:
        server.path.unlink()


@pytest.mark.parametrize("name", ["control", "nowhere/control", "file/control", "stale"])
async def test_no_daemon(name: str, folder: Path) -> None:
    """Where no daemon listens, who asks is told the path and what to do."""
    (folder / "file").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "stale"))
    with pytest.raises(ControlError, match=f"no daemon listens at {folder}/{name}: start it"):
        await ask(str(folder / name), "status")


async def test_no_permission(folder: Path) -> None:
    """Where permission is missing, who asks is told whose it is."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "control"))
        listener.listen()
        (folder / "control").chmod(0)
        own = os.geteuid()
        if own == 0:
            os.seteuid(65_534)
        try:
            with pytest.raises(ControlError, match="run this as root or as the daemon's user"):
                await ask(str(folder / "control"), "status")
        finally:
            os.seteuid(own)


async def test_impossible_path_to_ask() -> None:
    """Anything else that goes wrong is told with its path."""
    with pytest.raises(ControlError, match="can't talk to the daemon at /xxx"):
        await ask("/" + "x" * 200, "status")


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b"[]\n"])
async def test_nonsense_for_an_answer(answer: bytes, folder: Path) -> None:
    """An answer that is none is said to be missing."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(reply, folder / "control"):
        with pytest.raises(ControlError, match="gave no answer: see its log"):
            await ask(str(folder / "control"), "status")


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"RUNTIME_DIRECTORY": "/run/notifyd"}, "/run/notifyd/control"),
        ({"RUNTIME_DIRECTORY": "/run/notifyd:/run/other"}, "/run/notifyd/control"),
        ({"RUNTIME_DIRECTORY": "/run/n", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/n/control"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/notifyd/control"),
        ({}, "/run/notifyd/control"),
    ],
)
def test_default_path(environ: dict[str, str], path: str) -> None:
    """The socket is in systemd's directory, else in the user's, else where the service has it."""
    assert default_path(environ) == path


async def test_answers(folder: Path) -> None:
    """Whether a daemon listens can be told without asking it anything."""
    path = str(folder / "control")
    assert not control.answers(path)
    server = ControlServer(path, {})
    await server.start()
    assert control.answers(path)
    await server.close()
    assert not control.answers(path)
    assert not control.answers(f"{folder}/nowhere/control")


def test_where_a_shell_finds_it(folder: Path) -> None:
    """Who has a runtime directory without a daemon's socket in it asks the service's daemon."""
    environ = {"XDG_RUNTIME_DIR": str(folder)}
    own = folder / "notifyd" / "control"
    expected = "/run/notifyd/control" if os.path.lexists("/run/notifyd/control") else str(own)
    assert control.find(environ) == expected
    own.parent.mkdir()
    own.touch()
    assert control.find(environ) == str(own)
