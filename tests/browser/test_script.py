"""notifyd.js in a real browser, with everything around it in the hands of the test."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notifyd.core.protocol import CloseCode, Reconnect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser.chromium import Browser, Tab

pytestmark = pytest.mark.long

PAGE = Path(__file__).with_name("page.html").as_uri()
WELCOME = {"notifyd": "welcome", "ticket": None, "epoch": "e", "last_id": "1-0", "ping": 25}

# What the script promises, in seconds: the waits, the patience with an answer, the silence that a
# connection may keep after its welcome, and how long a good one lasts.
FIRST, LONGEST, REST, PATIENCE, SILENCE, STEADY = 2, 60, 5, 30, 35, 10


class World:
    """A page, and what is around it: surroundings.js tells what can be done there."""

    def __init__(self, tab: Tab, query: str = "") -> None:
        self.tab = tab
        tab.go(PAGE + query)

    def __call__(self, what: str, *arguments: object) -> Any:
        """Have something happen."""
        return self.tab.run(f"return world.{what}(...arguments)", *arguments)

    def get(self, expression: str) -> Any:
        """Look at something."""
        return self.tab.run(f"return {expression}")

    def chance(self, number: float) -> None:
        """Have Math.random return a number from now on."""
        self.tab.run("world.random = arguments[0]", number)

    @property
    def state(self) -> dict[str, Any]:
        """What was last said about the state, which is what the script says of itself."""
        last = self.tab.told("state")[-1]
        assert last["state"] == self.tab.state
        return last

    def connect(self) -> None:
        """Answer the request for a token, and open the WebSocket."""
        self("answer", 200)
        self("open")

    def welcome(self) -> None:
        """Let the page in."""
        self.connect()
        self("say", WELCOME)

    def end(self, code: int | None) -> dict[str, Any]:
        """End the connection, and return what was said about it."""
        self("end", code)
        return self.state

    def sockets(self) -> int:
        """Return how many WebSockets were made until now."""
        return int(self.get("world.sockets.length"))

    def requests(self) -> int:
        """Return how many tokens were asked for until now."""
        return int(self.get("world.requests.length"))


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Tab]:
    """Give the tab of all the tests here: each loads the page anew."""
    with browser.tab() as tab:
        yield tab


@pytest.fixture
def world(window: Tab) -> Iterator[World]:
    """Give a page that has asked for a token; whatever happens, there is never two of anything."""
    world = World(window)
    yield world
    assert max(world.get("world.most").values()) == 1


def waiting(code: int | None, seconds: float | None) -> dict[str, Any]:
    """Return what is said before another attempt."""
    return {"state": "waiting", "code": code, "retry_in": seconds}


def stopped(code: int | None) -> dict[str, Any]:
    """Return what is said at the end."""
    return {"state": "stopped", "code": code, "retry_in": None}


def test_token_is_asked_for(world: World) -> None:
    """The page asks its own site for a token by POST, with its CSRF token, past every cache."""
    assert world.state == {"state": "connecting", "code": None, "retry_in": None}
    assert world.requests() == 1
    assert world.get("world.requests[0].url") == "/notifyd/token/"
    assert world.get("world.requests[0].options") == {
        "method": "POST",
        "headers": {"X-CSRFToken": "the page's own"},
        "credentials": "same-origin",
        "cache": "no-store",
        "redirect": "manual",
    }


def test_later_scripts(world: World) -> None:
    """A script that comes after this one, but before DOMContentLoaded, misses nothing."""
    assert world.get("world.heard") == ["connecting"]


def test_closed_before_it_began(window: Tab) -> None:
    """It may even close the connection that there is not yet."""
    world = World(window, "?close")
    assert world.state == stopped(None)
    world("pass", 3600)
    assert world.requests() == 0


def test_hello(world: World) -> None:
    """It connects where the site says, sends the token in a hello, and then nothing more."""
    world.welcome()
    world("say", {"n": 1})
    world("pass", 20)
    [socket] = world.get("world.sockets")
    assert socket["url"] == "ws://notifyd/"
    assert [json.loads(text) for text in socket["sent"]] == [{"token": "the token"}]


def test_open_when_welcome(world: World) -> None:
    """The state is open once the daemon has let the page in, and not before."""
    world.connect()
    assert world.state["state"] == "connecting"
    world("say", WELCOME)
    assert world.state == {"state": "open", "code": None, "retry_in": None}


def test_event(world: World) -> None:
    """The detail of notifyd:event is the event with its id, whatever is in it."""
    world.welcome()
    event = {"id": "1-1", "model": "article", "deep": {"notifyd": "ping", "list": [1, None, "é"]}}
    world("say", event)
    assert world.tab.told("event") == [event]


def test_resync(world: World) -> None:
    """The detail of notifyd:resync is the daemon's message."""
    world.welcome()
    world("say", {"notifyd": "resync", "reason": "another history"})
    assert world.tab.told("resync") == [{"notifyd": "resync", "reason": "another history"}]


def test_unknown_control_frames(world: World) -> None:
    """Control frames that it does not know are ignored, and are no events."""
    world.welcome()
    for kind in ("ping", "ticket", "tomorrow's"):
        world("say", {"notifyd": kind})
    assert world.tab.told("event") == []
    assert world.state["state"] == "open"


@pytest.mark.parametrize("code", CloseCode)
def test_close_codes(world: World, code: CloseCode) -> None:
    """What follows a close code is what the table of close codes says."""
    world.welcome()
    after = {
        Reconnect.NO: stopped(code),
        Reconnect.YES: waiting(code, FIRST / 2),
        Reconnect.NEW_TOKEN: waiting(code, FIRST / 2),
        Reconnect.LATER: waiting(code, REST + FIRST / 2),
    }
    assert world.end(code) == after[code.reconnect]
    world("pass", REST + FIRST)
    assert world.requests() == (1 if code.reconnect is Reconnect.NO else 2)


@pytest.mark.parametrize(("code", "stops"), [(4403, True), (4410, False), (4999, False)])
def test_codes_of_other_versions(world: World, code: int, stops: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Access that was revoked is final; after a code it does not know the page comes back."""
    world.welcome()
    assert world.end(code) == (stopped(code) if stops else waiting(code, FIRST / 2))


def test_refused_twice(world: World) -> None:
    """A token that was refused is followed by another one; if that is refused too, it stops."""
    world.connect()
    assert world.end(4401) == waiting(4401, FIRST / 2)
    world("pass", FIRST)
    assert world.state == {"state": "connecting", "code": 4401, "retry_in": None}
    world.connect()
    assert world.end(4401) == stopped(4401)
    assert world.requests() == world.sockets() == 2


@pytest.mark.parametrize("between", [1006, None])
def test_refused_not_in_a_row(world: World, between: int | None) -> None:
    """Refusals with something else between them, a welcome or another end, are not in a row."""
    world.connect()
    world.end(4401)
    world("pass", FIRST)
    world.connect()
    if between is None:
        world("say", WELCOME)
    else:
        world.end(between)
        world("pass", LONGEST)
        world.connect()
    assert world.end(4401)["state"] == "waiting"


def test_each_connection_has_its_token(world: World) -> None:
    """No token is used for two connections."""
    for number in range(3):
        world("answer", 200, {"url": "ws://notifyd/", "token": f"token {number}"})
        world("open")
        world.end(1006)
        world("pass", LONGEST)
    sent = world.get("world.sockets.map((socket) => socket.sent)")
    assert [[json.loads(text) for text in texts] for texts in sent] == [
        [{"token": f"token {number}"}] for number in range(3)
    ]


def test_backoff(world: World) -> None:
    """The waits double with each failure, up to a minute."""
    world.chance(1)
    waits = []
    for _ in range(7):
        world("answer", None)
        waits.append(world.state["retry_in"])
        world("pass", waits[-1])
    assert waits == [2, 4, 8, 16, 32, LONGEST, LONGEST]


@pytest.mark.parametrize("chance", [0, 0.25])
def test_jitter(world: World, chance: float) -> None:
    """Each wait is a random part, from nothing to all, of what it may be at most."""
    world.chance(chance)
    for most in (2, 4, 8):
        world("answer", None)
        assert world.state == waiting(None, most * chance)
        world("pass", most * chance)


@pytest.mark.parametrize(("seconds", "most"), [(STEADY + 1, 2), (STEADY - 1, 8)])
def test_good_connection(world: World, seconds: float, most: float) -> None:
    """After a connection that has lasted, and only then, the waits are short again."""
    world.chance(1)
    for wait in (2, 4):
        world("answer", None)
        world("pass", wait)
    world.welcome()
    world("pass", seconds)
    assert world.end(1006) == waiting(1006, most)


@pytest.mark.parametrize(("asks", "gets"), [(3.25, 3.25), (0, 0), (1e10, 3600)])
def test_closing(world: World, asks: float, gets: float) -> None:
    """The daemon's own word for when to come back is kept, but for an hour at most."""
    world.welcome()
    world("say", {"notifyd": "closing", "retry_in": asks})
    assert world.end(1012) == waiting(1012, gets)
    world("pass", gets)
    assert world.requests() == 2
    # It was for that once.
    world.connect()
    assert world.end(1006)["retry_in"] == FIRST


@pytest.mark.parametrize("status", [0, 401, 403])
def test_no_token_for_this_page(world: World, status: int) -> None:
    """Where the site says that nobody is logged in, or somebody else, it stops."""
    world("answer", status)
    assert world.state == stopped(status)
    world("pass", 3600)
    assert world.requests() == 1


@pytest.mark.parametrize(
    ("status", "body", "wait"),
    [
        (None, "", FIRST / 2),
        (200, "<!doctype html>", FIRST / 2),
        (200, "{}", FIRST / 2),
        (404, "", FIRST / 2),
        (500, "", FIRST / 2),
        (429, "", REST + FIRST / 2),
        (503, "", REST + FIRST / 2),
    ],
)
def test_no_token_this_time(world: World, status: int | None, body: str, wait: float) -> None:
    """Where the site can't be reached or fails, the page tries again."""
    world("answer", status, body)
    assert world.state == waiting(None if status == 200 else status, wait)
    world("pass", wait)
    world.welcome()
    assert world.state["state"] == "open"


def test_site_without_answer(world: World) -> None:
    """A request for a token that stays without an answer is given up."""
    world("pass", PATIENCE - 1)
    assert world.state["state"] == "connecting"
    world("pass", 1)
    assert world.state == waiting(None, FIRST / 2)
    assert world.get("world.requests[0].pending") is False


@pytest.mark.parametrize("opens", [False, True])
def test_daemon_without_answer(world: World, opens: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """So is a WebSocket that does not open, or is never welcomed."""
    world("answer", 200)
    if opens:
        world("open")
    world("pass", PATIENCE)
    assert world.state == waiting(None, FIRST / 2)
    assert world.get("world.sockets[0].code") == 1000


def test_patience_is_not_silence(world: World) -> None:
    """How long a connection may be silent says nothing about the attempts after it."""
    world.connect()
    world("say", {**WELCOME, "ping": 100})
    world.end(1006)
    world("pass", FIRST / 2)
    world("pass", PATIENCE)
    assert world.state["state"] == "waiting"


def test_dead_link(world: World) -> None:
    """Where the daemon's ping is overdue the link is dead, and is given up for another."""
    world.welcome()
    world("pass", SILENCE - 1)
    assert world.state["state"] == "open"
    world("pass", 1)
    assert world.state == waiting(None, FIRST / 2)


@pytest.mark.parametrize("frame", [{"notifyd": "ping", "last_id": "1-0"}, {"id": "1-1"}])
def test_living_link(world: World, frame: dict[str, str]) -> None:
    """Whatever the daemon sends, a ping or an event, is a sign of life."""
    world.welcome()
    for _ in range(5):
        world("pass", SILENCE - 1)
        world("say", frame)
    assert world.state["state"] == "open"


def test_late_end(world: World) -> None:
    """What comes of a connection that was given up, its end or an event, does not count."""
    world.welcome()
    world("pass", SILENCE)
    world("say", {"id": "1-1"})
    world("pass", FIRST)
    world.welcome()
    world.tab.run("return world.end(1006, world.sockets[0])")
    assert world.state["state"] == "open"
    assert world.tab.told("event") == []


@pytest.mark.parametrize("sign", ["online", "visible"])
def test_hurry(world: World, sign: str) -> None:
    """When the network is back, or somebody looks, a long wait becomes a short one."""
    world.chance(1)
    for _ in range(5):
        world("answer", None)
        world("pass", world.state["retry_in"])
    world("answer", None)
    assert world.state == waiting(None, LONGEST)
    hurry(world, sign)
    assert world.state == waiting(None, FIRST)
    world("pass", 1)
    # It does not begin again: less than that is left.
    hurry(world, sign)
    world("pass", 1)
    assert world.state["state"] == "connecting"


def hurry(world: World, sign: str) -> None:
    """Have the browser say that the network is back, or that the page is seen."""
    if sign == "online":
        world.tab.run("return world.happen(new Event('online'))")
    else:
        world("show", True)
        world("show", False)


@pytest.mark.parametrize("sign", ["online", "visible"])
@pytest.mark.parametrize("code", [1012, 1013])
def test_no_hurry(world: World, sign: str, code: int) -> None:
    """A wait that the daemon has asked for, in seconds or by its close code, stays as it is."""
    world.welcome()
    if code == 1012:
        world("say", {"notifyd": "closing", "retry_in": 20})
    said = world.end(code)
    hurry(world, sign)
    assert world.state == said
    world("pass", said["retry_in"] - 1)
    assert world.requests() == 1


@pytest.mark.parametrize("sign", ["online", "visible"])
def test_sleep(world: World, sign: str) -> None:
    """After a computer has slept, the link counts as dead at once, whatever the timers say."""
    world.welcome()
    world("sleep", 1)
    hurry(world, sign)
    assert world.state["state"] == "open"
    world("sleep", SILENCE)
    hurry(world, sign)
    assert world.state == waiting(None, FIRST / 2)


LEAVE = "return world.happen(new PageTransitionEvent('pagehide', {persisted: true}))"
RETURN = "return world.happen(new PageTransitionEvent('pageshow', {persisted: arguments[0]}))"


@pytest.mark.parametrize("when", ["asking", "connecting", "open", "waiting"])
def test_left_and_returned(world: World, when: str) -> None:
    """A page that is left closes its connection; one that is returned to opens another."""
    if when != "asking":
        world.connect()
    if when == "open":
        world("say", WELCOME)
    elif when == "waiting":
        world.end(1006)
    world.tab.run(LEAVE)
    # Whatever is there to hurry would be done at once.
    world.chance(0)
    assert world.state == waiting(None, None)
    assert world.get("world.now()") == {"sockets": 0, "requests": 0, "timers": 0}
    hurry(world, "online")
    world("pass", 3600)
    assert world.requests() == 1
    world.tab.run(RETURN, True)
    world.welcome()
    assert world.state["state"] == "open"


def test_loaded_pages_are_not_returned_to(world: World) -> None:
    """The pageshow of a page that was just loaded says nothing new."""
    world.tab.run(RETURN, False)
    assert world.requests() == 1


def test_stopped_stays_stopped(world: World) -> None:
    """Once it has stopped, neither the network nor a way back makes it start again."""
    world("answer", 401)
    world.tab.run(LEAVE)
    world.tab.run(RETURN, True)
    hurry(world, "online")
    world("pass", 3600)
    assert world.state == stopped(401)
    assert world.requests() == 1


@pytest.mark.parametrize("when", ["asking", "connecting", "open", "waiting", "stopped"])
def test_close(world: World, when: str) -> None:
    """A page may close its connection, at any time and for good."""
    if when != "asking":
        world.connect()
    if when in {"open", "waiting", "stopped"}:
        world("say", WELCOME)
    if when in {"waiting", "stopped"}:
        world.end({"waiting": 1006, "stopped": 4400}[when])
    world.get("notifyd.close()")
    assert world.state == stopped(4400 if when == "stopped" else None)
    world("end", 1006)
    hurry(world, "online")
    world("pass", 3600)
    assert world.state["state"] == "stopped"
    assert world.requests() == 1
    codes = world.get("world.sockets.map((socket) => socket.code)")
    assert codes == {"asking": [], "connecting": [1000], "open": [1000]}.get(when, [None])


@pytest.mark.parametrize("state", ["connecting", "open", "waiting"])
def test_close_from_a_listener(world: World, state: str) -> None:
    """It may do so in the very moment it is told of something."""
    world.tab.run(
        "document.addEventListener('notifyd:state', (e) => e.detail.state === arguments[0]"
        " && notifyd.close())",
        state,
    )
    world.welcome()
    if state != "open":
        world.end(1006)
        world("pass", FIRST)
    world("pass", 3600)
    assert world.state == stopped(None)
    assert world.get("world.now()") == {"sockets": 0, "requests": 0, "timers": 0}


def test_close_from_a_listener_of_events(world: World) -> None:
    """The same holds for an event."""
    world.welcome()
    world.tab.run("document.addEventListener('notifyd:event', () => notifyd.close())")
    world("say", {"id": "1-1"})
    world("pass", 3600)
    assert world.state == stopped(None)
    assert world.requests() == 1


def test_failing_listener(world: World) -> None:
    """A listener that fails harms nobody else."""
    world.welcome()
    world.tab.run("document.addEventListener('notifyd:event', () => { throw new Error('mine') })")
    world("say", {"id": "1-1"})
    world("say", {"id": "1-2"})
    assert [event["id"] for event in world.tab.told("event")] == ["1-1", "1-2"]
    assert world.state["state"] == "open"


def test_one_global(world: World) -> None:
    """The script adds one name to the page, with a state and a close, and nobody can change it."""
    everything = "Object.getOwnPropertyNames(window)"
    assert world.get(f"{everything}.filter((name) => !world.names.includes(name))") == ["notifyd"]
    assert world.get("Object.keys(notifyd).sort()") == ["close", "state"]
    world.tab.run("notifyd.state = 'open'; notifyd.close = null")
    assert world.state["state"] == "connecting"


def test_included_twice(world: World) -> None:
    """A page that includes the script twice has one connection all the same."""
    world.welcome()
    world.tab.run(
        "const again = document.createElement('script');"
        "again.src = document.querySelector('script[data-token-url]').src;"
        "again.dataset.tokenUrl = '/notifyd/token/';"
        "return new Promise((resolve) => {"
        "  again.onload = resolve; document.head.append(again); });"
    )
    assert world.requests() == world.sockets() == 1


STEPS: list[tuple[Any, ...]] = [
    ("answer", 200),
    ("answer", 200),
    ("answer", 500),
    ("answer", None),
    ("open",),
    ("open",),
    ("say", WELCOME),
    ("say", {"id": "1-1"}),
    ("say", {"notifyd": "ping"}),
    ("say", {"notifyd": "closing", "retry_in": 3}),
    ("end", 1006),
    ("end", 1013),
    ("end", 4401),
    ("pass", 1),
    ("pass", 40),
    ("sleep", 60),
    ("show", True),
    ("show", False),
]

# What there is in each state: either a request or a socket while it connects, and mostly a timer.
PRESENT: dict[str, list[set[str]]] = {
    "connecting": [{"requests", "timers"}, {"sockets", "timers"}],
    "open": [{"sockets", "timers"}],
    "waiting": [{"timers"}],
    "stopped": [set()],
}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens(world: World, seed: int) -> None:
    """In whatever order things happen, nothing is left over and the page finds its way back."""
    chance = random.Random(seed)
    for _ in range(120):
        world.chance(chance.random())
        world(*chance.choice(STEPS))
        present = {kind for kind, number in world.get("world.now()").items() if number}
        assert present in PRESENT[world.state["state"]]
    if world.state["state"] == "stopped":
        assert world.state["code"] == 4401
        return
    world("pass", world.state["retry_in"] or 0)
    world.welcome()
    assert world.state["state"] == "open"
