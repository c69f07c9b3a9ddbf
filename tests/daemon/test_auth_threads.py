from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until, wait_until

from notifyd.daemon.auth_threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def threads(count: int, grace: float = 10) -> AsyncIterator[Threads]:
    """Give threads that end with the block."""
    made = Threads(count, leave=lambda: None)
    yield made
    await made.close(grace)


async def test_job() -> None:
    """A job is done in a thread, and the loop is told what it returned."""
    done: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()

    def tell(name: str) -> None:
        done.set_result((name, threading.current_thread().name))

    async with threads(1) as crew:
        crew.do(lambda: threading.current_thread().name, tell)
        assert await done == ("auth-0", threading.main_thread().name)


async def test_idle() -> None:
    """A thread is busy from the moment when it is given a job until the loop is told."""
    gate = threading.Event()
    told: list[int] = []
    async with threads(2) as crew:
        assert crew.idle == 2
        for _ in range(2):
            crew.do(gate.wait, lambda _: told.append(crew.idle))
        assert crew.idle == 0
        with pytest.raises(AssertionError):
            crew.do(gate.wait, told.append)
        gate.set()
        await until(lambda: len(told) == 2)
        assert told == [1, 2]


async def test_close() -> None:
    """Closing ends all threads, each of which leaves by itself."""
    left: list[str] = []
    crew = Threads(3, leave=lambda: left.append(threading.current_thread().name))
    await crew.close(10)
    assert sorted(left) == ["auth-0", "auth-1", "auth-2"]


async def test_close_with_a_stuck_thread() -> None:
    """Closing does not wait for a job that doesn't end."""
    gate = threading.Event()
    done: list[bool] = []
    async with asyncio.timeout(5):
        async with threads(2, grace=0.05) as crew:
            crew.do(gate.wait, done.append)
        gate.set()
        await until(lambda: done)


def test_end_of_the_loop() -> None:
    """A job that ends after its loop has nobody to tell, and does no harm."""
    gate = threading.Event()
    before = {*threading.enumerate()}

    async def leave() -> None:
        async with threads(1, grace=0) as crew:
            crew.do(gate.wait, pytest.fail)

    asyncio.run(leave())
    (stuck,) = {*threading.enumerate()} - before
    gate.set()
    wait_until(lambda: not stuck.is_alive())


async def test_nothing_is_kept() -> None:
    """An idle thread keeps nothing of the job that it did last."""

    class Secret:
        def work(self) -> Secret:
            return self

    secret = Secret()
    kept = weakref.ref(secret)
    told: list[Any] = []
    async with threads(1) as crew:
        crew.do(secret.work, lambda _: told.append(None))
        await until(lambda: told)
        del secret
        gc.collect()
        assert kept() is None
