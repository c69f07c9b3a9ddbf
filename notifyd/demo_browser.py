"""What the demo's check needs of a browser: cookies, forms, and the tag that brings notifyd.js."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any, Final
from urllib.parse import urlencode, urljoin

from notifyd.demo_processes import DemoError

_PATIENCE: Final = 20.0
"""Seconds that an answer may take."""

# Inputs that are sent only if they are ticked, and those that are not sent with the others.
_TICKED: Final = {"checkbox", "radio"}
_UNSENT: Final = {"button", "file", "image", "reset", "submit"}


class Page(HTMLParser):
    """A page that was loaded: where it came from, its links, forms and scripts.

    `forms` has the fields of each form by the form's id, as they would be sent. `scripts` has the
    attributes of the tags.
    """

    def __init__(self, address: str, text: str) -> None:
        super().__init__()
        self.address = address
        self.links: list[str] = []
        self.forms: dict[str, dict[str, str]] = {}
        self.scripts: list[dict[str, str]] = []
        self._form: dict[str, str] = {}
        self._select = self._textarea = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag means; HTMLParser calls it."""
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        match tag:
            case "a":
                self.links.append(given.get("href", ""))
            case "script":
                self.scripts.append(given)
            case "form":
                self._form = self.forms[given.get("id", "")] = {}
            case "input":
                self._input(name, given)
            case "select":
                self._select = name
            case "option" if "selected" in given and self._select:
                self._form[self._select] = given.get("value", "")
            case "textarea" if name:
                self._textarea = name
                self._form[name] = ""

    def _input(self, name: str, given: dict[str, str]) -> None:
        kind = given.get("type", "text")
        sent = "checked" in given if kind in _TICKED else kind not in _UNSENT
        if name and sent:
            self._form[name] = given.get("value", "on" if kind in _TICKED else "")

    def handle_data(self, data: str) -> None:
        """Take the text of a text area; HTMLParser calls it."""
        if self._textarea:
            self._form[self._textarea] += data

    def handle_endtag(self, tag: str) -> None:
        """Note the end of what holds others; HTMLParser calls it."""
        if tag == "textarea" and self._textarea:
            # The line break behind the tag is no part of the text (HTML, section 13.1.2.5).
            self._form[self._textarea] = self._form[self._textarea].removeprefix("\n")
            self._textarea = ""
        elif tag == "select":
            self._select = ""


class Browser:
    """A browser with one person in front of it. Every method raises DemoError."""

    def __init__(self, person: str, site: str) -> None:
        self.person = person
        self._site = site
        # No proxy of the user's settings could reach the demo.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def load(self, path: str) -> Page:
        """Load a page, following redirects."""
        return Page(*self._fetch(path))

    def send(self, path: str, fields: dict[str, str]) -> Page:
        """Send a form, and load the page that it leads to."""
        return Page(*self._fetch(path, urlencode(fields).encode()))

    def post(self, path: str, headers: dict[str, str]) -> dict[str, Any]:
        """Post nothing, as a script does, and return the JSON of the answer."""
        _, text = self._fetch(path, b"", headers)
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise DemoError(f"{path} answers {self.person} with no JSON: {text[:200]}") from error

    def _fetch(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[str, str]:
        address = urljoin(self._site, path)
        request = urllib.request.Request(address, data, headers or {})  # noqa: S310 - the demo's own
        try:
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                return answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise DemoError(f"{address} answers {self.person} with {error.code}.") from error
        except OSError as error:
            raise DemoError(f"{address} can't be loaded: {error}.") from error
