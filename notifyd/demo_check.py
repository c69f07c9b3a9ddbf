"""The check of the demo: it plays the people and their browsers, and tells whether all is well.

An event proves that it arrives; that one does not arrive is proved by the next that does, for
they come in order. So nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin

from notifyd.demo_browser import Browser
from notifyd.demo_processes import DemoError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from websockets.asyncio.client import ClientConnection

PASSWORD: Final = "newsroom"  # noqa: S105 - everybody's, and printed by the demo

_PATIENCE: Final = 20.0
"""Seconds that a message of the daemon may take."""


async def check(site: str, say: Callable[[str], None]) -> None:
    """Have omar edit, and see that nadia hears of it and rosa, who may not, does not.

    `site` is the address of the newsroom. Raises DemoError.
    """
    nadia, rosa, omar = (Browser(name, site) for name in ("nadia", "rosa", "omar"))
    for person in (nadia, rosa, omar):
        await asyncio.to_thread(_log_in, person)
    say("==> nadia, rosa and omar have logged in")
    async with _live(nadia, site) as permitted, _live(rosa, site) as other:
        say("==> nadia and rosa are connected")
        for model in ("article", "comment"):
            key = await asyncio.to_thread(_edit, omar, model)
            await _expect(permitted, nadia, model, key)
            say(f"==> omar has edited {model} {key}, and nadia heard of it")
        # What omar has done first would have come first.
        await _expect(other, rosa, model, key)
        say("==> rosa, who may see no article, heard of the comment only")


def _log_in(browser: Browser) -> None:
    path = "/admin/login/?next=/admin/"
    form = browser.load(path).forms.get("login-form", {})
    page = browser.send(path, {**form, "username": browser.person, "password": PASSWORD})
    if "login-form" in page.forms:
        raise DemoError(
            f"{browser.person} can't log in with the password {PASSWORD!r}. If it was changed,"
            " remove the demo's folder to begin anew."
        )


def _edit(browser: Browser, model: str) -> str:
    """Change the text of the first object in the list, and return its key."""
    changelist = f"/admin/articles/{model}/"
    page = browser.load(changelist)
    link = re.compile(rf"(?:{changelist})?(\d+)/change/.*")
    keys = [match[1] for href in page.links if (match := link.fullmatch(href))]
    if not keys:
        raise DemoError(f"{browser.person} finds no {model} to edit in the admin.")
    path = f"{changelist}{keys[0]}/change/"
    form = browser.load(path).forms.get(f"{model}_form", {})
    form["text"] = _different(form.get("text", ""))
    if f"{model}_form" in browser.send(path, form).forms:
        raise DemoError(f"{browser.person} can't save {model} {keys[0]} in the admin.")
    return keys[0]


def _different(text: str) -> str:
    """Return another text; the next run takes the difference back."""
    mark = "(checked)"
    text = text.rstrip()
    return text.removesuffix(mark).rstrip() if text.endswith(mark) else f"{text} {mark}".lstrip()


@contextlib.asynccontextmanager
async def _live(browser: Browser, site: str) -> AsyncIterator[ClientConnection]:
    """Have the connection that notifyd.js would make; it has been welcomed."""
    login = await asyncio.to_thread(_token, browser)
    try:
        origin = Origin(site.rstrip("/"))
        async with connect(login["url"], origin=origin, proxy=None) as connection:
            await connection.send(json.dumps({"token": login["token"]}))
            while (await _message(connection, browser)).get("notifyd") != "welcome":
                pass
            yield connection
    except (OSError, WebSocketException) as error:
        words = f"{browser.person}'s connection to the daemon has failed: {error}."
        raise DemoError(words) from error


def _token(browser: Browser) -> dict[str, Any]:
    page = browser.load("/admin/")
    for script in page.scripts:
        if script.get("src", "").endswith("/notifyd.js"):
            browser.load(script["src"])
            return browser.post(
                script["data-token-url"], {"X-CSRFToken": script["data-csrf-token"]}
            )
    raise DemoError(f"{page.address} does not bring notifyd.js to {browser.person}.")


async def _expect(connection: ClientConnection, browser: Browser, model: str, key: str) -> None:
    """See that the next event tells of omar's edit of this object."""
    event = await _message(connection, browser)
    while "notifyd" in event:
        event = await _message(connection, browser)
    found = (event.get("user"), event.get("model"), str(event.get("object_id")))
    if found != ("omar", model, key):
        raise DemoError(
            f"{browser.person} should hear of omar's edit of {model} {key}, but hears {event}."
        )


async def _message(connection: ClientConnection, browser: Browser) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PATIENCE):
            return dict(json.loads(await connection.recv()))
    except TimeoutError as error:
        raise DemoError(f"{browser.person} hears nothing within {_PATIENCE:.0f} s.") from error
