"""Debian's Chromium, without a screen, and people who use it: each with cookies of their own."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any, Self

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ("chromium", "chromedriver")

_ARGUMENTS = (
    "--headless",
    # There is no sandbox for root, whom the tests run as in CI.
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    # The tests' servers are on this machine: no proxy of the user's settings could reach them.
    "--no-proxy-server",
)

# Keeps what notifyd.js tells its page, from the first word, and every WebSocket that is made.
_WITNESS = """
window.told = [];
for (const kind of ["event", "state", "resync"])
  document.addEventListener(`notifyd:${kind}`, (event) => told.push([kind, event.detail]));
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url);
    this.sent = [];
    sockets.push(this);
  }
  send(text) {
    this.sent.push(text);
    super.send(text);
  }
};
"""


def missing() -> list[str]:
    """Return which of the programs are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Tab:
    """A tab, with cookies that it shares with no other."""

    def __init__(self, browser: Browser, width: int, height: int, scale: float) -> None:
        self._browser = browser
        driver = browser.driver
        self._person = driver.browser.create_user_context()
        self._handle = driver.browsing_context.create(type="tab", user_context=self._person)
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Page.addScriptToEvaluateOnNewDocument", source=_WITNESS)

    @property
    def driver(self) -> webdriver.Chrome:
        """Selenium's driver, looking at this tab."""
        if self._browser.looks_at != self._handle:
            self._browser.driver.switch_to.window(self._handle)
            self._browser.looks_at = self._handle
        return self._browser.driver

    def command(self, name: str, **parameters: Any) -> Any:
        """Give a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def go(self, address: str) -> None:
        """Load a page, and its scripts."""
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; what it returns may be a promise."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element that the selector matches, as it is to be seen."""
        element = self.driver.find_element("css selector", selector)
        return str(element.text)

    def fill(self, **fields: str) -> None:
        """Write into the fields of a form."""
        for name, text in fields.items():
            field = self.driver.find_element("name", name)
            field.clear()
            field.send_keys(text)

    def press(self, selector: str, *, leads_on: bool = True) -> None:
        """Click on what the selector matches, and wait for the page behind it, if there is one."""
        before = self.driver.find_element("tag name", "html")
        self.driver.find_element("css selector", selector).click()
        if not leads_on:
            return
        wait_until(lambda: self._left(before), 20)
        wait_until(lambda: self.run("return document.readyState") == "complete", 20)

    def _left(self, before: WebElement) -> bool:
        """Tell whether another page is there than the one with that element."""
        try:
            return bool(self.driver.find_element("tag name", "html") != before)
        except (NoSuchElementException, StaleElementReferenceException):
            # Neither is there in the moment between them.
            return False

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return the details of the page's DOM events of one kind."""
        return [detail for each, detail in self.run("return told") if each == kind]

    @property
    def state(self) -> str | None:
        """What notifyd.js says of itself, None where there is none."""
        state = self.run("return window.notifyd && window.notifyd.state")
        return None if state is None else str(state)

    def hasten(self) -> None:
        """Let the page wait as short a time as chance may give it, from now on."""
        self.run("Math.random = () => 0")

    def hold(self) -> None:
        """Let the page wait for longer than any test, from now on, unless it is hurried."""
        self.run("Math.random = () => 1000")

    def hurry(self) -> None:
        """Let the page try again now, as when its network is back, and as soon from now on."""
        self.hasten()
        self.run("window.dispatchEvent(new Event('online'))")

    def wait_for(self, state: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until the connection is in a state, and return the detail that said so.

        Pages whose daemon is away try their ticket three times, with growing random waits.
        """
        wait_until(lambda: self.state == state, timeout)
        # It may have gone on since then.
        return [each for each in self.told("state") if each["state"] == state][-1]

    def event(self, timeout: float = 20, **keys: object) -> dict[str, Any]:
        """Wait for an event with these keys, and return it."""
        found = wait_until(
            lambda: [e for e in self.told("event") if keys.items() <= e.items()], timeout
        )
        return dict(found[0])

    def console(self) -> list[str]:
        """Return what the browser has written to its console since the last time."""
        lines = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # selenium's own
        return [str(line["message"]) for line in lines]

    def photograph(self, path: Path) -> None:
        """Save what is to be seen, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.driver.get_screenshot_as_png())

    def close(self) -> None:
        """Close the tab, and forget its cookies."""
        self._browser.driver.browser.remove_user_context(self._person)
        self._browser.looks_at = None


class Browser:
    """Chromium with its driver. Leave it running, and take tabs of your own."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        # Several people in one browser are part of this protocol, BiDi, only.
        options.enable_bidi = True
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # With the paths given, selenium looks for nothing to download.
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        # The tab that the driver's next command is for.
        self.looks_at: str | None = None

    @contextlib.contextmanager
    def tab(self, width: int = 1280, height: int = 800, scale: float = 1) -> Iterator[Tab]:
        """Have a tab for the length of a block."""
        tab = Tab(self, width, height, scale)
        try:
            yield tab
        finally:
            tab.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()
