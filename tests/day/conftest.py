"""The day, once for all tests about it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from day.panels import ask
from day.script import SCRIPT
from day.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from day.panels import Shown


class Day(NamedTuple):
    """What is left of it: the world, when each chapter began, and what the dashboard shows."""

    world: World
    began: dict[str, float]
    ended: float
    shown: list[Shown]


@pytest.fixture(scope="session")
def day(request: pytest.FixtureRequest) -> Day:
    """Give the day when it is over; it tells how it goes."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    terminal = request.config.get_terminal_writer()

    def say(words: str) -> None:
        terminal.line(f"\n{words}" if words.startswith("The day") else words)
        terminal.flush()

    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        return asyncio.run(_live(Path(name), say))


async def _live(folder: Path, say: Callable[[str], None]) -> Day:
    say("The day begins")
    began: dict[str, float] = {}
    with contextlib.ExitStack() as ends:
        async with World(folder, ends) as world:
            start = time.time()
            for chapter in SCRIPT:
                began[chapter.title] = time.time()
                say(f"{time.time() - start:4.0f} s  {chapter.title}")
                try:
                    await chapter.happen(world)
                except BaseException as error:
                    error.add_note(f"in: {chapter.title}\n{world.daemon.log[-5000:]}")
                    raise
            ended = time.time()
            say(f"{ended - start:4.0f} s  the day is over")
            shown = await asyncio.to_thread(ask, world.prometheus, start, ended)
    return Day(world, began, ended, shown)
