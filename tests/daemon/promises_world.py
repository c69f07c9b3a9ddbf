"""The whole of it: two daemons between a site, a stream and some pages, and what happens when."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest
from daemon.promises_daemon import Daemon, make_small
from daemon.promises_outside import Loop, Redis
from daemon.promises_site import Site

from notifyd.daemon.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.promises_pages import Page

    from notifyd.core.positions import Position


@functools.cache
def _metrics() -> Metrics:
    # Nobody looks at them.
    return Metrics()


class World:
    """Everything, and the moments in which it happens."""

    def __init__(self) -> None:
        self._moment = 0
        self._faults: list[str] = []
        self._trouble = 0
        self.busy = False
        self.broken = False
        self.loop = Loop()
        self.loop.set_exception_handler(lambda _, context: self.fault(str(context)))
        self._patch = pytest.MonkeyPatch()
        make_small(self._patch, self.loop)
        self.metrics = _metrics()
        self.redis = Redis(self.tick)
        self.site = Site(self.loop, self.redis, self.tick)
        self.daemons: list[Daemon] = []
        self.pages: list[Page] = []
        self.act(lambda: self.daemons.extend(Daemon(self) for _ in range(2)))

    def tick(self) -> int:
        """Return another moment."""
        self._moment += 1
        return self._moment

    def fault(self, text: str) -> None:
        """Note that a promise was broken."""
        self._faults.append(text)

    def trouble(self) -> None:
        """Note that who has to be told something may not be told in time."""
        self._trouble = self.tick()

    def may_lose(self, at: tuple[str, Position], moment: int) -> bool:
        """Tell whether somebody who came to a position at that moment may be told to resync."""
        redis = self.redis
        gone = at[0] != redis.epoch or at[1] < redis.first
        lost = not all(daemon.epoch == redis.epoch for daemon in self.daemons)
        return self._trouble > moment or gone or lost or redis.away or redis.answers.bad

    def jumped(self, daemon: Daemon) -> None:
        """Hear that a daemon goes on somewhere else."""
        self.trouble()
        for page in self.pages:
            if page.link and page.link.daemon is daemon:
                # What is between is not relayed, and so nobody is closed by it.
                page.link.jumped()

    def act(self, action: Callable[[], object] = lambda: None) -> None:
        """Do something, and wait until nothing moves."""
        self.broken = True
        self.loop.act(action)
        assert not self._faults, "\n".join(self._faults)
        self.broken = False

    def check(self) -> None:
        """Find everything at work, and every promise kept."""
        self.broken = True
        for daemon in self.daemons:
            daemon.check()
        for page in self.pages:
            self._check(page)
        assert not self._faults, "\n".join(self._faults)
        self.broken = False

    def _check(self, page: Page) -> None:
        link = page.link
        if link is None or link.daemon.held:
            return
        stream = link.daemon.parts.relay
        if link.welcomed is None or link.closing or stream.position is None:
            return
        since = link.welcomed[1] if link.welcomed[0] == stream.epoch else None
        for position in self.redis.ended(stream.epoch or "", page.user):
            if (since or stream.position) < position <= stream.position:
                self.fault(f"user {page.user} is not closed by {position}")

    def pass_time(self, seconds: float, steps: int) -> None:
        """Let time pass, and the clocks of the daemons turn."""
        for _ in range(steps):
            self.loop.pass_time(seconds / steps)
            self.act(self._turn)

    def _turn(self) -> None:
        for daemon in self.daemons:
            daemon.turn()

    def step(self) -> None:
        """Let those outside answer, and a moment pass if it is a busy world."""
        self.act(self.redis.answers.step)
        self.act(self.site.answers.step)
        if self.busy:
            self.pass_time(0.1, 1)
        self.come_back()
        self.check()

    def come_back(self) -> None:
        """Let pages connect again whose connections have ended."""
        for page in self.pages:
            if page.away:
                self.act(page.come_back)

    def read(self, which: int, most: int, hold: int | None = None) -> None:
        """Let a daemon finish what it is at, and read something."""
        daemon = self.daemons[which]
        if daemon.gated:
            self.act(daemon.go_on)
        self.act(lambda: daemon.read(most, hold))

    def replace(self, which: int) -> None:
        """Kill a daemon, and start another in its place."""
        dead = self.daemons[which]

        def replace() -> None:
            dead.end()
            for page in self.pages:
                if page.link and page.link.daemon is dead:
                    page.lost(page.link, None)
            self.daemons[which] = Daemon(self)

        self.act(replace)

    def settle(self) -> None:
        """Mend everything, wait, and find that all have what they were promised."""
        paces = [(each, each.lag, each.how) for each in (self.redis.answers, self.site.answers)]
        if self.redis.away or self.redis.answers.bad:
            # Somebody has lost patience, perhaps, and has not heard of it yet.
            self.trouble()
        self.redis.away = False
        for each, _, _ in paces:
            self.act(functools.partial(each.become, 0, "as it was"))
        for page in self.pages:
            if page.link:
                self.act(page.link.widen)
        for _ in range(4):
            self.come_back()
            self.read(0, 1000)
            self.read(1, 1000)
            self.pass_time(6.0, 2)
        self.check()
        for page in self.pages:
            if page.link is not None:
                assert page.link.welcomed, f"user {page.user} still waits"
                page.arrive(self.redis.epoch, self.redis.last)
        self.check()
        for each, lag, how in paces:
            each.become(lag, how)

    def close(self) -> None:
        """Be gone."""

        def end() -> None:
            for task in asyncio.all_tasks(self.loop):
                if task is not asyncio.current_task():
                    task.cancel()

        try:
            self.loop.act(end)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()
            self._patch.undo()
