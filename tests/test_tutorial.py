"""The tutorial, followed step by step by somebody who does what the page says and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import pytest
from e2e.clients import Page, Pages
from pages import ROOT, Reader, blocks
from waiting import until
from websockets.typing import Origin

from notifyd.demo_browser import Browser
from notifyd.demo_processes import DemoError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from notifyd import demo_browser

TUTORIAL = ROOT / "docs" / "tutorial" / "an-event-in-the-browser.md"
FILES = TUTORIAL.parent / "mysite"
BLOCKS = blocks(TUTORIAL)
TITLES = {block.title for block in BLOCKS} - {""}

# What a file is called that goes to the end of a module, and so is none by itself.
END = "_end.txt"

# What differs from one event to the next, and how it looks.
VOLATILE = {"id": r"\d{13}-\d+", "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"}


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    """Give somebody in front of an empty folder."""
    empty = folder / "empty"
    empty.mkdir()
    with Reader(empty, "mysite") as somebody:
        yield somebody


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    """Give the WebSockets of the reader's windows."""
    opened = Pages()
    yield opened
    await opened.close()


class Window:
    """A window of the reader's browser."""

    def __init__(self, reader: Reader, pages: Pages) -> None:
        self.site = f"http://localhost:{reader.ports[8000]}"
        self.browser = Browser("ada", self.site)
        self._reader = reader
        self._pages = pages

    def log_in(self) -> demo_browser.Page:
        """Load the home page, which asks who it is first."""
        page = self.browser.load("/")
        form = page.forms["login-form"] | {"username": "ada", "password": "lovelace"}
        return self.browser.send(page.address, form)

    async def connect(self, page: demo_browser.Page) -> Page:
        """Do what the scripts of a page do, and return the connection once it is open."""
        ours, theirs = page.scripts
        assert ours["src"].endswith("/notifyd.js")
        for script in (ours, theirs):
            self.browser.load(script["src"])
        header = {"X-CSRFToken": ours["data-csrf-token"]}
        answer = self.browser.post(ours["data-token-url"], header)
        address = self._reader.here(answer["url"]).removeprefix("ws://").rstrip("/")
        assert address == f"localhost:{self._reader.ports[8888]}"
        connected = await self._pages.connect(address, origin=Origin(self.site))
        await connected.connection.send(json.dumps({"token": answer["token"]}))
        await connected.control("welcome")
        return connected

    def form(self) -> dict[str, str] | None:
        """Return the form of the home page, None while it has none; the site may be reloading."""
        try:
            return self.browser.load("/").forms.get("")
        except (DemoError, HTTPException):
            # It may go away in the middle of its answer.
            return None


async def follow(reader: Reader, section: str) -> dict[str, Any]:
    """Do what a section says, and return the event that it shows."""
    event: dict[str, Any] = {}
    for block in (each for each in BLOCKS if each.section == section):
        if block.language == "json":
            event = json.loads(block.text)
        await asyncio.to_thread(reader.follow, block)
    return event


def plain(event: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the keys and values of an event in their order, without what always differs."""
    return [
        (key, VOLATILE[key] if re.fullmatch(VOLATILE.get(key, ""), str(value)) else value)
        for key, value in event.items()
    ]


@pytest.mark.long
async def test_tutorial(reader: Reader, pages: Pages) -> None:
    """Who follows the tutorial from an empty folder sees its events, as it shows them."""
    sections = list(dict.fromkeys(block.section for block in BLOCKS))
    *preparation, watching, saying = sections
    for section in preparation:
        await follow(reader, section)

    first, second = Window(reader, pages), Window(reader, pages)
    home = await first.connect(await asyncio.to_thread(first.log_in))
    shown = await follow(reader, watching)
    await asyncio.to_thread(second.log_in)
    path = "/admin/notes/note/add/"
    form = second.browser.load(path).forms["note_form"]
    second.browser.send(path, form | {"text": shown["object"]})
    await until(lambda: home.events)
    assert plain(home.events[0]) == plain(shown)

    shown = await follow(reader, saying)
    form = await until(second.form, 20)
    second.browser.send("/", form | {"words": shown["words"]})
    await home.count(2)
    assert plain(home.events[1]) == plain(shown)
    assert written(reader) == stored(reader)


def written(reader: Reader) -> dict[str, str]:
    """Return the files that the page had the reader write."""
    files = {title.partition(", ")[0] for title in TITLES}
    return {file: (reader.project / file).read_text() for file in files}


def stored(reader: Reader) -> dict[str, str]:
    """Return the same files as they are beside the page; what begins one is startproject's."""
    found = {}
    for path in (path for path in FILES.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        file = str(path.relative_to(FILES))
        text = reader.here(path.read_text())
        if file.endswith(END):
            file = file.replace(END, ".py")
            text = f"{(reader.project / file).read_text().removesuffix(text)}{text}"
        found[file] = text
    return found
