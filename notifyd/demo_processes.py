"""The programs that the demo consists of: started one by one, kept, and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")

_PR_SET_PDEATHSIG: Final = 1
"""From linux/prctl.h."""

_PATIENCE: Final = 60.0
"""Seconds until a program that has started must answer; a slow machine may need many."""

_FAREWELL: Final = 10.0
"""Seconds from SIGTERM to SIGKILL."""

_PAUSE: Final = 0.05
"""Seconds between two questions to a program that does not answer yet."""

_TAIL: Final = 15
"""Lines of a log that tell why its program has failed."""

_libc = ctypes.CDLL(None, use_errno=True)


class DemoError(Exception):
    """The demo can't go on; the text says why and, where something can be done, what."""


class Program:
    """A program that runs; what it prints goes into its log.

    `start` starts its process, which `answers` tells to be of use by now.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[Process]],
        answers: Callable[[], Awaitable[bool]],
        log: Path,
    ) -> None:
        self._name = name
        self._start = start
        self._answers = answers
        self._log = log
        self._process: Process

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    async def start(self) -> None:
        """Start it; again, too, once it has ended."""
        self._process = await self._start()

    async def ended(self) -> None:
        """Wait until the program ends by itself, which it should not; raises DemoError then."""
        how = await self._end()
        raise DemoError(f"{self._name} has ended {how}. {last_lines(self._log)}")

    async def kept(self, rest: float, say: Callable[[str], None]) -> None:
        """Start it again whenever it has ended, after `rest` seconds, as a service manager does.

        `say` is told. Raises DemoError if it can't be started any more.
        """
        while True:
            how = await self._end()
            say(f"{self._name} has ended {how}. It is started again in {rest:.0f} s.")
            await asyncio.sleep(rest)
            await self.start()
            await self.ready()
            say(f"{self._name} is back, as process {self.pid}.")

    async def ready(self) -> None:
        """Wait until the program answers. Raises DemoError if it ends instead, or never does."""

        async def answer() -> None:
            while not await self._answers():  # noqa: ASYNC110 - it is another process that changes
                await asyncio.sleep(_PAUSE)

        try:
            async with asyncio.timeout(_PATIENCE):
                await while_running([self.ended()], answer())
        except TimeoutError:
            words = f"{self._name} does not answer after {_PATIENCE:.0f} s. {last_lines(self._log)}"
            raise DemoError(words) from None

    async def stop(self) -> None:
        """End the program and whatever it has started: politely first, and then surely."""
        await _stop(self._process)

    async def _end(self) -> str:
        """Wait for the end of the process, and return what it was like."""
        return _how(await self._process.wait())


@contextlib.asynccontextmanager
async def running(
    name: str,
    *command: str,
    answers: Callable[[], Awaitable[bool]],
    environment: Mapping[str, str],
    log: Path,
) -> AsyncIterator[Program]:
    """Have a program run for the length of a block; its log is written anew."""
    start = functools.partial(_start, *command, environment=environment, output=_emptied(log))
    program = Program(name, start, answers, log)
    await program.start()
    try:
        yield program
    finally:
        await program.stop()


async def finished(name: str, *command: str, environment: Mapping[str, str], log: Path) -> None:
    """Run a program to its end. Raises DemoError if it fails."""
    process = await _start(*command, environment=environment, output=_emptied(log))
    try:
        code = await process.wait()
    finally:
        await _stop(process)
    if code:
        raise DemoError(f"{name} has failed {_how(code)}. {last_lines(log)}")


async def while_running(
    watches: Iterable[Coroutine[Any, Any, None]], work: Coroutine[Any, Any, T]
) -> T:
    """Await `work` and return its result; raises DemoError as soon as a watch does.

    The watches are what `ended` or `kept` of programs return.
    """
    task = asyncio.create_task(work)
    ends = [asyncio.create_task(watch) for watch in watches]
    try:
        await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            if end.done():
                # It explains whatever else has failed because of it.
                await end
        return await task
    finally:
        for each in (task, *ends):
            each.cancel()
        await asyncio.gather(task, *ends, return_exceptions=True)


async def _stop(process: Process) -> None:
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_FAREWELL):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        # Whoever presses Ctrl-C once more interrupts the waiting above, but not this.
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    # The program leads a group of processes. Once it was waited for, the group's number may have
    # been given to somebody else.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _emptied(log: Path) -> Path:
    log.write_bytes(b"")
    return log


def last_lines(log: Path) -> str:
    """Return the end of a log, introduced by where the rest is."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL:]
    if not lines:
        return f"Its log, {log}, is empty."
    return "\n".join([f"The end of its log, {log}:", *(f"    {line}" for line in lines)])


def _how(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by a signal ({signal.strsignal(-code)})"


async def _start(*command: str, environment: Mapping[str, str], output: Path) -> Process:
    parent = os.getpid()

    def follow() -> None:
        # A parent that is killed can end nobody: the kernel does it then (prctl(2)).
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It was killed before the kernel was told.
            os._exit(1)

    with output.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            cwd=output.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal goes to the whole group in the foreground. In sessions of their
            # own the programs don't get it, so that they are ended one after another.
            start_new_session=True,
            preexec_fn=follow,
        )
