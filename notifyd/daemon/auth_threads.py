"""The threads in which the site's code runs, and with it everything that waits for a database."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """A number of threads, each doing one job at a time for the event loop they were made in.

    `idle` is how many have nothing to do. There is no queue: whoever waits for a thread waits in
    the event loop, where those who give up leave nothing behind. `leave` is called by each thread
    at its end.
    """

    def __init__(self, count: int, *, leave: Callable[[], None]) -> None:
        self.idle = count
        self._count = count
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        for number in range(count):
            # No executor: the end of the process would wait for its threads, stuck or not.
            threading.Thread(target=self._work, name=f"auth-{number}", daemon=True).start()

    def do(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have an idle thread do the job; `done` gets what it returns, in the event loop.

        The job must not raise.
        """
        assert self.idle, "somebody handed out a job that no thread is there for"
        self.idle -= 1
        self._jobs.put((job, done))

    async def close(self, grace: float) -> None:
        """End the threads; those that are stuck in a job after `grace` seconds are left behind."""
        ends = [self._loop.create_future() for _ in range(self._count)]
        for end in ends:
            self._jobs.put((None, end.set_result))
        await asyncio.wait(ends, timeout=grace)

    def _work(self) -> None:
        """Do jobs, in a thread, until one of them is None."""
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # A function of its own, so that an idle thread has no token or login in its variables.
        job, done = self._jobs.get()
        result = self._leave() if job is None else job()
        # A query that was stuck may return when the loop is closed: nobody is left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, done, result)
        return job is not None

    def _finish(self, done: Callable[[Any], None], result: Any) -> None:
        self.idle += 1
        done(result)


_Job = tuple["Callable[[], Any] | None", "Callable[[Any], None]"]
