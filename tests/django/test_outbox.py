from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test.utils import override_settings
from servers import LOOPBACK, RedisServer, free_port
from waiting import wait_until

from notifyd.django import (
    PublishError,
    PublishUnknown,
    notify,
    notify_disconnect,
    notify_recheck,
    outbox,
)
from notifyd.django.bus import Reason, connect
from notifyd.django.controls import MOST
from notifyd.django.outbox import Outbox
from notifyd.django.settings import load
from notifyd.django.stats import Stats

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streams import Stream

    Written = Callable[[], list[dict[str, Any]]]
    Start = Callable[[str, str], subprocess.Popen[str]]

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")


@pytest.fixture(autouse=True)
def stats(monkeypatch: pytest.MonkeyPatch) -> Stats:
    """Give the counts of this test."""
    fresh = Stats()
    monkeypatch.setattr("notifyd.django.outbox.stats", fresh)
    monkeypatch.setattr("notifyd.django.publisher.stats", fresh)
    return fresh


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the thread wait for longer than the test takes."""
    monkeypatch.setattr(outbox, "FIRST", 600.0)


def disconnected(*users: int) -> dict[str, Any]:
    """Return the entry that disconnects users."""
    return {"disconnect": {"users": [str(user) for user in users]}}


def revoke(stream: Stream, *users: int) -> None:
    """Disconnect users while Redis is down."""
    with stream.server.stopped():
        for user in users:
            notify_disconnect(user)


@contextlib.contextmanager
def repeating(stream: Stream) -> Iterator[None]:
    """Have somebody repeat what is pending, and wait for the answer during the block."""
    thread = threading.Thread(target=outbox.outbox.repeat)
    with stream.server.paused():
        thread.start()
        wait_until(outbox.outbox._writing.locked)
        yield
        thread.join()


def threads() -> int:
    """Return how many threads are there to repeat something."""
    return sum(thread.name == "notifyd-outbox" for thread in threading.enumerate())


def test_written(stream: Stream, written: Written, stats: Stats) -> None:
    """A control that Redis takes is counted, and needs no thread."""
    notify_disconnect(1)
    assert written() == [disconnected(1)]
    assert (stats.controls, stats.controls_failed, stats.controls_pending) == (1, 0, 0)
    assert threads() == 0
    assert stream.server.pid


def test_repeated(
    stream: Stream, written: Written, stats: Stats, caplog: pytest.LogCaptureFixture
) -> None:
    """What Redis could not take is written, as one entry, soon after it is back."""
    with stream.server.stopped():
        get_user_model().objects.get(username="nadia").save()
        notify_disconnect([1, 2])
        assert (stats.controls, stats.controls_failed, stats.controls_pending) == (0, 2, 2)
        assert threads() == 1
    # A circuit breaker would keep the others from trying for longer than that.
    [entry] = wait_until(written, timeout=outbox.LONGEST + 1)
    assert entry == {"recheck": {"users": ["2"]}, **disconnected(1, 2)}
    wait_until(lambda: threads() == 0)
    assert (stats.controls, stats.controls_failed, stats.controls_pending) == (1, 2, 0)
    first, last = [record for record in caplog.records if "control" in record.message]
    assert first.levelno == logging.ERROR
    assert first.message.startswith("control not published: ConnectionError: ")
    assert last.message == "2 control(s) published at last"


@pytest.mark.usefixtures("by_hand")
def test_withheld(
    stream: Stream, written: Written, stats: Stats, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is written, no event is, which says why; and then they flow again."""
    revoke(stream, 1)
    notify({"n": 1}, everyone=True)
    with pytest.raises(PublishError) as caught:
        notify({"n": 2}, everyone=True, required=True)
    assert caught.value.reason is Reason.WITHHELD
    assert stats.failures["withheld"] == 2
    assert "1 event(s) not published: a control that was published before is not" in caplog.text
    assert written() == []
    outbox.outbox.repeat()
    notify({"n": 3}, everyone=True)
    assert written() == [disconnected(1), {"n": 3}]


@pytest.mark.usefixtures("by_hand")
def test_withheld_in_a_transaction(stream: Stream, written: Written) -> None:
    """The events of the very transaction wait for its own controls, too."""
    with stream.server.stopped(), transaction.atomic():
        notify({"n": 1}, everyone=True)
        notify_disconnect(1)
    outbox.outbox.repeat()
    assert written() == [disconnected(1)]


@pytest.mark.usefixtures("by_hand")
def test_behind_another(stream: Stream, written: Written, stats: Stats) -> None:
    """A control joins the one that waits, and who requires it hears that it has to wait."""
    revoke(stream, 1)
    notify_disconnect(2)
    with pytest.raises(PublishError, match="an earlier control"):
        notify_disconnect(3, required=True)
    assert stats.controls_pending == 3
    assert written() == []
    outbox.outbox.repeat()
    assert written() == [disconnected(1, 2, 3)]
    assert stats.controls_pending == 0


@pytest.mark.usefixtures("by_hand")
def test_unknown(stream: Stream, written: Written, stats: Stats) -> None:
    """A control that may have been written is repeated, for that changes nothing."""
    notify_disconnect(1)
    with stream.server.paused(), pytest.raises(PublishUnknown):
        notify_disconnect(2, required=True)
    assert stats.controls_pending == 1
    outbox.outbox.repeat()
    assert written() == [disconnected(1), disconnected(2), disconnected(2)]


@pytest.mark.usefixtures("by_hand")
def test_refused(stream: Stream, written: Written, stats: Stats) -> None:
    """A Redis that refuses it is asked again, and what came meanwhile is not lost."""
    stream.client.set("{notifyd}:events", "mine")
    notify_disconnect(1)
    outbox.outbox.repeat()
    notify_disconnect(2)
    assert stats.controls_pending == 2
    stream.client.delete("{notifyd}:events")
    outbox.outbox.repeat()
    outbox.outbox.repeat()
    assert written() == [disconnected(1, 2)]


@pytest.mark.usefixtures("by_hand")
def test_breaker(stream: Stream, written: Written) -> None:
    """Repeating doesn't wait for the circuit breaker, and closes it."""
    with stream.server.stopped():
        notify({"n": 1}, everyone=True)
        notify_disconnect(1)
        outbox.outbox.repeat()
    with pytest.raises(PublishError, match="less than 5 s ago"):
        connect(load()).position()
    outbox.outbox.repeat()
    assert connect(load()).position() is None
    assert written() == [disconnected(1)]


@pytest.mark.usefixtures("by_hand")
def test_no_thread(stream: Stream, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread repeats it, whoever publishes next does."""
    revoke(stream, 1)
    monkeypatch.setattr(outbox, "OVERDUE", 0.0)
    notify({"n": 1}, everyone=True)
    assert written() == [disconnected(1), {"n": 1}]


@pytest.mark.usefixtures("by_hand")
def test_one_at_a_time(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody repeats it, nobody else waits for that."""
    revoke(stream, 1)
    monkeypatch.setattr(outbox, "OVERDUE", 0.0)
    with repeating(stream):
        begun = time.monotonic()
        notify({"n": 1}, everyone=True)
        assert time.monotonic() - begun < 0.4


@pytest.mark.usefixtures("by_hand")
def test_arrives_while_repeating(stream: Stream, written: Written, stats: Stats) -> None:
    """What comes while the others are being written waits with them, or for the next time."""
    notify_disconnect(1)
    revoke(stream, 2)
    with repeating(stream):
        notify_disconnect(3)
    assert stats.controls_pending == 2
    outbox.outbox.repeat()
    assert stats.controls_pending == 0
    assert written() == [disconnected(1), disconnected(2, 3)]


def test_no_address(stats: Stats, caplog: pytest.LogCaptureFixture) -> None:
    """Settings without an address are told, and nothing is repeated for them."""
    cache = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": cache}, NOTIFYD={}):
        notify_disconnect(1)
        with pytest.raises(PublishError, match="is not of django-redis"):
            notify_disconnect(1, required=True)
    assert (stats.controls_failed, stats.controls_pending, threads()) == (2, 0, 0)
    assert "control not published: CACHES['default'] is not of django-redis" in caplog.text


@pytest.mark.parametrize("change", [{"ENABLED": False}, {"PREFIX": "other"}])
def test_settings_change(
    change: dict[str, Any], stream: Stream, written: Written, stats: Stats
) -> None:
    """When the settings change nothing is pending any more, and nobody repeats it."""
    revoke(stream, 1)
    with override_settings(NOTIFYD=change):
        assert stats.controls_pending == 0
        wait_until(lambda: threads() == 0)
        notify({"n": 1}, everyone=True, required=True)
    notify({"n": 2}, everyone=True, required=True)
    # It may have been on its way.
    assert written()[-1] == {"n": 2}


@pytest.mark.usefixtures("by_hand")
def test_settings_change_while_repeating(stream: Stream, stats: Stats) -> None:
    """What is being written then is not taken for something that is pending."""
    revoke(stream, 1)
    with repeating(stream), override_settings(NOTIFYD={"PREFIX": "other"}):
        pass
    assert stats.controls_pending == 0
    assert not outbox.outbox.withholds()


def test_many(stream: Stream, written: Written) -> None:
    """However many wait, they make one entry."""
    with stream.server.stopped():
        for key in range(MOST + 1):
            notify_recheck(users=[key])
    assert wait_until(written) == [{"recheck": {"all": True}}]


def test_empty(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing is pending, there is nothing to repeat, and nothing to say at the end."""
    box = Outbox()
    box.repeat()
    box.close()
    assert not caplog.records


SETTINGS = """
SECRET_KEY = "not a secret"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = [f"django.contrib.{{app}}" for app in ("auth", "contenttypes")]
INSTALLED_APPS.append("notifyd.django")
NOTIFYD = {{"REDIS_URL": "{url}"}}
"""

SETUP = """
import os, time, warnings
import django
django.setup()
from notifyd.django import notify, notify_disconnect
from notifyd.django.publisher import stats

def tell(text):
    print(text, flush=True)
"""


@pytest.fixture
def later(folder: Path) -> RedisServer:
    """Give a server that isn't started yet."""
    return RedisServer(folder)


def test_fork(start: Start, later: RedisServer) -> None:
    """The child of a fork has nothing pending of its parent's, and repeats its own."""
    script = SETUP + (
        # Later versions warn that threads don't survive it, which is the point.
        "warnings.simplefilter('ignore')\n"
        "notify_disconnect(1)\n"
        "assert stats.controls_pending == 1\n"
        "child = os.fork() == 0\n"
        "if child:\n"
        "    assert stats.controls_pending == 0\n"
        "    notify_disconnect(2)\n"
        "    assert stats.controls_pending == 1\n"
        "    tell('ready')\n"
        "while stats.controls_pending:\n"
        "    time.sleep(0.01)\n"
        "assert stats.controls == 1\n"
        "if not child:\n"
        "    assert os.wait()[1] == 0\n"
        "tell('done')\n"
    )
    process = start(SETTINGS.format(url=later.url), script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with later:
        assert process.communicate()[0] == "done\ndone\n"
        client: Any = later.client()
        texts = [fields[b"control"] for _, fields in client.xrange("{notifyd}:events")]
    assert sorted(texts) == [b'{"disconnect":{"users":["%d"]}}' % user for user in (1, 2)]


LAST = SETUP + (
    "from notifyd.django import outbox\n"
    "outbox.FIRST = 600\n"
    "notify_disconnect(1)\n"
    "notify_disconnect(2)\n"
    "tell('ready')\n"
    "input()\n"
)


def test_exit(start: Start, later: RedisServer) -> None:
    """A process that ends tries once more."""
    process = start(SETTINGS.format(url=later.url), LAST)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with later:
        errors = process.communicate("\n")[1]
        client: Any = later.client()
        assert client.xlen("{notifyd}:events") == 1
    assert errors.splitlines()[1:] == ["2 control(s) published at last"]


def test_exit_in_vain(start: Start) -> None:
    """A process that ends without having written everything says so, soon."""
    url = f"redis://{LOOPBACK}:{free_port()}/0"
    process = start(SETTINGS.format(url=url), LAST)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    errors = process.communicate("\n")[1]
    assert time.monotonic() - begun < 5
    assert process.returncode == 0
    assert errors.splitlines()[1].startswith("2 control(s) not published: ")
