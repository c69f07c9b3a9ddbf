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
WELCOME = {
    "notifyd": "welcome",
    "ticket": None,
    "ticket_ttl": None,
    "epoch": "e",
    "last_id": "1-0",
    "recovered": None,
    "ping": 25,
}
RESYNC = {"notifyd": "resync", "reason": "another history"}
TOKEN = {"token": "the token"}
TICKET = {"ticket": "the ticket"}
HERE = {"since": "1-0", "epoch": "e"}

# What the script promises, in seconds: the waits, the patience with an answer, the silence that a
# connection may keep after its welcome, and how long a good one lasts.
FIRST, LONGEST, REST, PATIENCE, SILENCE, STEADY = 2, 60, 5, 30, 35, 10
MOMENT = 0.5
# How often it tries a ticket in a row, and how long the daemon's are good.
TRIES, TTL = 3, 900


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

    def welcome(self, **keys: object) -> None:
        """Let the page in, by its token."""
        self.connect()
        self("say", {**WELCOME, **keys})

    def admit(self, **keys: object) -> None:
        """Let the page in, and give it a ticket."""
        self.welcome(ticket="the ticket", ticket_ttl=TTL, **keys)

    def come_back(self, code: int = 1006) -> None:
        """End the connection, and let the time pass that the page waits before the next."""
        self("pass", self.end(code)["retry_in"])

    def end(self, code: int | None) -> dict[str, Any]:
        """End the connection, and return what was said about it."""
        self("end", code)
        return self.state

    def acknowledged(self) -> list[str]:
        """Return the ids that were acknowledged, by all WebSockets, in messages of that form."""
        said = [json.loads(text) for texts in self.sent() for text in texts[1:]]
        assert all(each == {"notifyd": "ack", "id": each["id"]} for each in said)
        return [each["id"] for each in said]

    def sent(self) -> list[list[str]]:
        """Return what was sent, by each WebSocket."""
        sent: list[list[str]] = self.get("world.sockets.map((socket) => socket.sent)")
        return sent

    def hellos(self) -> list[dict[str, str]]:
        """Return what was sent, by all WebSockets: the hello, and never another word."""
        sent = self.sent()
        assert max(len(texts) for texts in sent) <= 1
        return [json.loads(text) for texts in sent for text in texts]

    def next_hello(self) -> dict[str, str]:
        """Return the hello of a connection that is made now, by ticket or token."""
        if self.get("world.now().requests"):
            self("answer", 200)
        self("open")
        return self.hellos()[-1]

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
    assert world.get("world.sockets[0].url") == "ws://notifyd/"
    assert world.hellos() == [TOKEN]


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


@pytest.mark.parametrize(
    ("asked", "chance", "sent"),
    [(1, 0.999, True), (0.01, 0.009, True), (0.01, 0.01, False), (0, 0, False), (None, 0, False)],
)
def test_acknowledgement(world: World, asked: float | None, chance: float, sent: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The part of the events that the daemon asks for is acknowledged, and without a word none."""
    world.welcome(**({} if asked is None else {"ack": asked}))
    world.chance(chance)
    world("say", {"id": "1-1", "n": 1})
    assert world.acknowledged() == (["1-1"] if sent else [])


def test_acknowledgements_are_few(world: World) -> None:
    """However many events there are, one is acknowledged in a second, over all connections."""
    world.welcome(ack=1)
    for n in range(30):
        world("say", {"id": f"1-{n}"})
        world("pass", 0.1)
    assert world.acknowledged() == ["1-0", "1-10", "1-20"]
    world("pass", 0.5)
    world.tab.run("for (let n = 0; n < 1000; n++) world.say({ id: `2-${n}` })")
    assert world.acknowledged() == ["1-0", "1-10", "1-20", "2-0"]


def test_only_events_are_acknowledged(world: World) -> None:
    """Neither control frames nor events without an id are acknowledged."""
    world.welcome(ack=1)
    for frame in ({"n": 1}, {"notifyd": "ping", "last_id": "1-1"}, {**RESYNC, "id": "1-1"}):
        world("say", frame)
    assert world.acknowledged() == []


def test_acknowledgement_comes_last(world: World) -> None:
    """An event is acknowledged once the page was told, and not if the page then hangs up."""
    world.welcome(ack=1)
    world.tab.run(
        "document.addEventListener('notifyd:event', () => {"
        " world.before = world.sockets[0].sent.length; notifyd.close(); })"
    )
    world("say", {"id": "1-1"})
    assert world.get("world.before") == 1
    assert world.acknowledged() == []


def test_acknowledging_goes_by_the_welcome(world: World) -> None:
    """What counts is what the daemon of this connection asks for."""
    world.admit(ack=1)
    world.come_back()
    world("open")
    world("say", WELCOME)
    world("say", {"id": "1-1"})
    assert world.acknowledged() == []


def test_resync(world: World) -> None:
    """The detail of notifyd:resync is the daemon's message."""
    world.welcome()
    world("say", RESYNC)
    assert world.tab.told("resync") == [RESYNC]


def test_unknown_control_frames(world: World) -> None:
    """Control frames that it does not know, or that lack their keys, are no events."""
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
        Reconnect.NEW_TOKEN: waiting(code, MOMENT + FIRST / 2),
        Reconnect.LATER: waiting(code, REST + FIRST / 2),
    }
    assert world.end(code) == after[code.reconnect]
    world("pass", REST + FIRST)
    assert world.requests() == (1 if code.reconnect is Reconnect.NO else 2)


def test_code_of_another_version(world: World) -> None:
    """After a code that it does not know the page comes back."""
    world.welcome()
    assert world.end(4999) == waiting(4999, FIRST / 2)


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
    """Tokens that were refused with another end or a welcome between them were not in a row."""
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


def test_logged_out(world: World) -> None:
    """The end of a log-in refuses no token: the two that count are those after it."""
    world.welcome()
    for state in ("waiting", "waiting", "stopped"):
        said = world.end(4401)
        assert said["state"] == state
        if state == "waiting":
            world("pass", said["retry_in"])
            world.connect()


def test_each_connection_has_its_token(world: World) -> None:
    """No token is used for two connections."""
    for number in range(3):
        world("answer", 200, {"url": "ws://notifyd/", "token": f"token {number}"})
        world("open")
        world.end(1006)
        world("pass", LONGEST)
    assert world.hellos() == [{"token": f"token {number}"} for number in range(3)]


@pytest.mark.parametrize(
    ("frames", "since"),
    [
        ([], "1-0"),
        ([{"id": "1-1"}], "1-1"),
        ([{"id": "1-1"}, {"notifyd": "ping", "last_id": "1-5"}], "1-5"),
        ([{"notifyd": "ping", "last_id": "1-5"}, {"id": "1-7"}], "1-7"),
        ([{"id": "b"}, {"id": "a"}], "a"),
        # What says nothing of it: an event by Pub/Sub, the site's own keys, a newer daemon's word.
        ([{"id": "1-1"}, {"model": "article"}], "1-1"),
        ([{"id": "1-1", "last_id": "9-9", "epoch": "theirs"}], "1-1"),
        ([{"notifyd": "tomorrow's", "last_id": "9-9", "epoch": "f", "id": "9-9"}], "1-0"),
        ([{"notifyd": "ping", "last_id": None}], "1-0"),
        ([{"id": "1-1"}, RESYNC], "1-1"),
        ([{"id": "1-1"}, {**RESYNC, "epoch": None, "last_id": None}], "1-1"),
    ],
)
def test_position(world: World, frames: list[dict[str, Any]], since: str) -> None:
    """The next hello says where the page is: at the last id that it has heard, whatever it is."""
    world.welcome()
    for frame in frames:
        world("say", frame)
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": since, "epoch": "e"}


def test_position_is_kept(world: World) -> None:
    """It stays through attempts that fail, until a daemon knows of another."""
    world.welcome()
    world.come_back()
    world("answer", None)
    world("pass", LONGEST)
    assert world.next_hello() == TOKEN | HERE
    world.come_back()
    assert world.next_hello() == TOKEN | HERE
    world("say", {**WELCOME, "epoch": "f", "last_id": None})
    world.come_back()
    # An id goes with the history that it is of.
    assert world.next_hello() == TOKEN | HERE
    world("say", {**WELCOME, "last_id": "1-3"})
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "1-3", "epoch": "e"}


@pytest.mark.parametrize("epoch", ["e", None])
def test_position_unknown(world: World, epoch: str | None) -> None:
    """As long as the daemon does not know its position, there is none to tell; then there is."""
    world.welcome(epoch=epoch, last_id=None)
    world.come_back()
    assert world.next_hello() == TOKEN
    world("say", {**WELCOME, "epoch": epoch, "last_id": None})
    world("say", {"id": "1-1"})
    world.come_back()
    history = {} if epoch is None else {"epoch": epoch}
    assert world.next_hello() == {**TOKEN, "since": "1-1", **history}


def test_replay(world: World) -> None:
    """Where the replay of what was missed is cut off, the next one goes on."""
    world.welcome()
    world.come_back()
    world.welcome(recovered=True)
    world("say", {"id": "1-1"})
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "1-1", "epoch": "e"}


@pytest.mark.parametrize("more", [{}, {"epoch": "f", "last_id": "2-0"}])
def test_not_recovered(world: World, more: dict[str, str]) -> None:
    """Where the daemon can't replay, the page goes on from the welcome once it was told so."""
    world.welcome()
    world.come_back()
    world.welcome(epoch="f", last_id="2-0", recovered=False)
    world("say", {**RESYNC, **more})
    assert len(world.tab.told("resync")) == 1
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "2-0", "epoch": "f"}


def test_not_recovered_once(world: World) -> None:
    """A later resync that names no position does not lead back to that of the welcome."""
    world.welcome(recovered=False)
    for frame in (RESYNC, {"id": "1-1"}, RESYNC):
        world("say", frame)
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "1-1", "epoch": "e"}


def test_not_recovered_and_not_told(world: World) -> None:
    """If the link breaks between the welcome and that word, the page asks for the same again."""
    world.welcome()
    world.come_back()
    world.welcome(epoch="f", last_id="2-0", recovered=False)
    world.come_back()
    assert world.next_hello() == TOKEN | HERE
    # Of the first connection it is known no more: another resync has nothing to do with it.
    world("say", {**WELCOME, "last_id": "1-3"})
    world("say", RESYNC)
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "1-3", "epoch": "e"}


def test_history_begins_anew(world: World) -> None:
    """A resync may name another history, and the position in it, in the middle of a connection."""
    world.welcome()
    world("say", {**RESYNC, "epoch": "f", "last_id": "2-0"})
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "2-0", "epoch": "f"}
    world("say", {**WELCOME, "epoch": "f", "last_id": "2-0"})
    world("say", {"id": "2-1"})
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "2-1", "epoch": "f"}


def test_event_at_the_position(world: World) -> None:
    """An event whose id was heard before is told all the same: twice is better than never."""
    world.welcome()
    world("say", {"notifyd": "ping", "last_id": "1-1"})
    for _ in range(2):
        world("say", {"id": "1-1"})
    assert world.tab.told("event") == [{"id": "1-1"}] * 2


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("?since=1-5&epoch=e", {"since": "1-5", "epoch": "e"}),
        ("?since=1-5", {"since": "1-5"}),
        ("?since=1-5&epoch=", {"since": "1-5"}),
        ("?since=&epoch=", {}),
        ("?since=&epoch=e", {}),
    ],
)
def test_position_of_the_page(window: Tab, query: str, asked: dict[str, str]) -> None:
    """The first hello says where the site was when it made the page, if the page knows."""
    world = World(window, query)
    world.connect()
    assert world.hellos() == [TOKEN | asked]
    world("say", {**WELCOME, "last_id": "1-8", "epoch": "f"})
    world.come_back()
    assert world.next_hello() == {**TOKEN, "since": "1-8", "epoch": "f"}


def test_ticket(world: World) -> None:
    """With a ticket the page comes back without asking the site, to the same address."""
    world.admit()
    world.come_back(1012)
    assert world.state == {"state": "connecting", "code": 1012, "retry_in": None}
    assert world.sockets() == 2
    assert world.next_hello() == TICKET | HERE
    assert world.get("world.sockets.map((socket) => socket.url)") == ["ws://notifyd/"] * 2
    world("say", WELCOME)
    assert world.state["state"] == "open"
    assert world.requests() == 1


@pytest.mark.parametrize("kind", ["ticket", "welcome"])
def test_newer_ticket(world: World, kind: str) -> None:
    """The last ticket counts, whether it came during a connection or with its welcome."""
    world.admit()
    if kind == "welcome":
        world.come_back()
        world("open")
    world("say", {**WELCOME, "notifyd": kind, "ticket": "another", "ticket_ttl": TTL})
    world.come_back()
    assert world.next_hello() == {"ticket": "another", **HERE}
    assert world.tab.told("event") == []


@pytest.mark.parametrize("how", ["pass", "sleep"])
@pytest.mark.parametrize(("seconds", "good"), [(TTL - 2, True), (TTL, False)])
def test_ticket_runs_out(world: World, how: str, seconds: float, good: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A ticket is shown as long as it is good, and the time of a computer's sleep counts."""
    world.admit(ping=3600)
    world(how, seconds)
    world.come_back()
    assert world.next_hello() == (TICKET if good else TOKEN) | HERE
    assert world.requests() == (1 if good else 2)


def test_ticket_without_an_end(world: World) -> None:
    """A ticket of which it is not known how long it is good is not used."""
    world.welcome(ticket="the ticket")
    world("sleep", 1)
    world.come_back()
    assert world.next_hello() == TOKEN | HERE


@pytest.mark.parametrize("code", [1009, 4400, 4401, 4410])
def test_ticket_refused(world: World, code: int) -> None:
    """A ticket that was refused is forgotten, and a token is fetched soon, from the same place."""
    world.admit()
    world.chance(1)
    # Waits that have grown long before do not count.
    for _ in range(2):
        world.come_back()
    assert world.next_hello() == TICKET | HERE
    assert world.end(code) == waiting(code, FIRST)
    world("pass", FIRST)
    assert world.requests() == 2
    world.connect()
    assert world.hellos()[-1] == TOKEN | HERE
    world.come_back()
    assert world.requests() == 3


def test_ticket_refused_is_no_token_refused(world: World) -> None:
    """It stops when two tokens were refused, and the ticket before them is none."""
    world.admit()
    world.come_back()
    world.next_hello()
    for state in ("waiting", "waiting", "stopped"):
        said = world.end(4401)
        assert said["state"] == state
        if state == "waiting":
            world("pass", said["retry_in"])
            world.next_hello()
    assert ["token" in hello for hello in world.hellos()] == [True, False, True, True]


@pytest.mark.parametrize("code", [4401, 4410])
def test_login_has_ended(world: World, code: int) -> None:
    """When the log-in of a connection has ended, its ticket has, too."""
    world.admit()
    world.come_back(code)
    assert world.next_hello() == TOKEN | HERE
    assert world.requests() == 2


@pytest.mark.parametrize("code", [1006, 1012, 1013, 4408, 4420, 4429])
def test_ticket_is_tried_again(world: World, code: int) -> None:
    """An end that says nothing of the ticket leaves it; but the daemon may have moved meanwhile."""
    world.admit()
    world.come_back(code)
    for _ in range(2):
        for _ in range(TRIES):
            assert world.next_hello() == TICKET | HERE
            world.come_back(code)
        world("answer", 200, {"url": "ws://elsewhere/", **TOKEN})
        world("open")
        assert world.hellos()[-1] == TOKEN | HERE
        world.come_back(code)
    assert world.requests() == 3
    urls = world.get("world.sockets.map((socket) => socket.url)")
    assert urls == ["ws://notifyd/"] * (1 + TRIES) + ["ws://elsewhere/"] * (1 + TRIES + 1 + 1)


@pytest.mark.parametrize("status", [None, 500])
def test_ticket_while_the_site_is_away(world: World, status: int | None) -> None:
    """If the site does not answer then, the ticket has its turn again."""
    world.admit()
    world.come_back()
    for _ in range(TRIES):
        world.come_back()
    world("answer", status)
    world("pass", world.state["retry_in"])
    assert world.next_hello() == TICKET | HERE


def test_ticket_that_works_is_not_counted(world: World) -> None:
    """Only attempts that fail are counted, in a row: a welcome begins a new one."""
    world.admit()
    for _ in range(3 * TRIES):
        world.come_back()
        assert world.next_hello() == TICKET | HERE
        world("say", WELCOME)
    assert world.requests() == 1


def test_ticket_without_answer(world: World) -> None:
    """A WebSocket that a ticket opens is waited for as long as any, and no longer."""
    world.admit()
    world.come_back()
    world("pass", PATIENCE)
    assert world.state == waiting(None, FIRST)


def test_ticket_revoked(world: World) -> None:
    """Where access was revoked, neither a ticket nor a token is tried again."""
    world.admit()
    world.come_back()
    world.next_hello()
    assert world.end(4403) == stopped(4403)
    world("pass", 3600)
    assert (world.requests(), world.sockets()) == (1, 2)


def test_nothing_is_stored(world: World) -> None:
    """Ticket and position are in memory only: a page that is loaded again begins anew."""
    world.admit()
    for store in ("localStorage", "sessionStorage"):
        assert world.get(f"{store}.length") == 0
    assert world.get("history.state || document.cookie || window.name || location.hash") == ""
    assert world.get("document.documentElement.outerHTML.includes('the ticket')") is False
    again = World(world.tab)
    again.connect()
    assert again.hellos() == [TOKEN]


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


def test_returned_resumes(world: World) -> None:
    """It goes on where it was, but who is there by now is for the site to say."""
    world.admit()
    world("say", {"id": "1-1"})
    world.tab.run(LEAVE)
    world("say", {"id": "1-2"})
    world.tab.run(RETURN, True)
    assert world.requests() == 2
    assert world.next_hello() == {**TOKEN, "since": "1-1", "epoch": "e"}
    assert world.tab.told("event") == [{"id": "1-1"}]


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


@pytest.mark.parametrize("when", ["connecting", "open", "waiting"])
def test_close_with_a_ticket(world: World, when: str) -> None:
    """A ticket does not open what the page has closed."""
    world.admit()
    if when != "open":
        world.end(1006)
    if when == "connecting":
        world("pass", FIRST)
    world.get("notifyd.close()")
    hurry(world, "online")
    world.tab.run(RETURN, True)
    world("pass", 3600)
    assert world.state == stopped(None)
    assert world.requests() == 1
    assert world.get("world.now()") == {"sockets": 0, "requests": 0, "timers": 0}


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


def test_close_from_a_listener_with_a_ticket(world: World) -> None:
    """When it is told that a ticket is about to open the next WebSocket, there is none."""
    world.admit()
    world.end(1006)
    world.tab.run("document.addEventListener('notifyd:state', () => notifyd.close())")
    world("pass", FIRST)
    assert world.state == stopped(None)
    assert world.sockets() == world.requests() == 1


def test_close_from_a_listener_of_events(world: World) -> None:
    """The same holds for an event."""
    world.welcome()
    world.tab.run("document.addEventListener('notifyd:event', () => notifyd.close())")
    world("say", {"id": "1-1"})
    world("pass", 3600)
    assert world.state == stopped(None)
    assert world.requests() == 1


@pytest.mark.parametrize("kind", ["event", "state", "resync"])
def test_failing_listener(world: World, kind: str) -> None:
    """A listener that fails harms nobody else, nor does it keep the page where it was."""
    world.tab.run(
        "document.addEventListener('notifyd:' + arguments[0], () => { throw new Error('mine') })",
        kind,
    )
    world.admit()
    world("say", {"id": "1-1"})
    world("say", {**RESYNC, "epoch": "f", "last_id": "2-0"})
    world("say", {"id": "2-1"})
    assert [event["id"] for event in world.tab.told("event")] == ["1-1", "2-1"]
    assert world.state["state"] == "open"
    world.come_back()
    assert world.next_hello() == {**TICKET, "since": "2-1", "epoch": "f"}


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
    ("say", {**WELCOME, "ticket": "t", "ticket_ttl": 60}),
    ("say", {**WELCOME, "recovered": False}),
    ("say", {"id": "1-1"}),
    ("say", {"notifyd": "ping"}),
    ("say", {"notifyd": "closing", "retry_in": 3}),
    ("end", 1006),
    ("end", 1013),
    ("end", 4401),
    ("end", 4410),
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
    for hello in world.hellos():
        assert len(hello.keys() & {"token", "ticket"}) == 1
        assert all(isinstance(value, str) for value in hello.values())
