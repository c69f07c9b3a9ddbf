from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.test.utils import override_settings
from servers import LOOPBACK, RedisServer
from waiting import wait_until

from notifyd.daemon.bus_stream import LOCATE, keys
from notifyd.django import bus
from notifyd.django.bus import Breaker, Bus, PublishError, PublishUnknown, Reason, connect
from notifyd.django.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams import Stream

pytest_plugins = ["newsroom_fixtures"]

ENTRY = {b"event": b'{"n": 1}', b"to": b'{"everyone": true}'}

# Two waits of half a second are the most; the rest is for a busy machine.
MOST = 2.0


@pytest.fixture
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the breaker of the next bus try again soon."""
    monkeypatch.setattr(bus, "REST", 0.05)


@contextlib.contextmanager
def scripted(*answers: bytes) -> Iterator[Bus]:
    """Give a bus at a server that answers what it is told, then closes the connection."""

    def serve() -> None:
        with listener.accept()[0] as connection:
            left = list(answers)
            while left:
                asked = connection.recv(65536)
                known = asked.count(b"SETINFO")
                connection.sendall(b"+OK\r\n" * known or left.pop(0))

    with socket.create_server((LOOPBACK, 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        url = f"redis://:s3cret@{LOOPBACK}:{listener.getsockname()[1]}/0"
        with override_settings(NOTIFYD={"REDIS_URL": url}):
            yield connect(load())
        server.join()


def test_stream_key() -> None:
    """The stream's name is the one that the daemon reads."""
    assert bus.stream_key("notifyd") == "{notifyd}:events"
    assert bus.stream_key("news") == keys("news")[0]


def test_epoch_key() -> None:
    """The name of the epoch, too, is the one that the daemon reads."""
    assert bus.epoch_key("news") == keys("news")[1]


def test_position(stream: Stream) -> None:
    """The position is the one that the daemon would begin at, or none before there was a daemon."""
    connect(load()).write([ENTRY])
    assert connect(load()).position() is None
    epoch, _, last = stream.client.eval(LOCATE, 2, *keys("notifyd"), "e1")
    assert connect(load()).position() == (epoch.decode(), last.decode())


def test_anyway(stream: Stream) -> None:
    """Somebody who must doesn't wait until the rest is over, and ends it for all."""
    way = connect(load())
    with stream.server.stopped():
        for anyway in (False, True):
            with pytest.raises(PublishError) as caught:
                way.write([ENTRY], anyway=anyway)
            assert caught.value.reason is Reason.CONNECTION
    with pytest.raises(PublishError, match="less than 5 s ago"):
        way.write([ENTRY])
    way.write([ENTRY], anyway=True)
    way.write([ENTRY])
    assert len(stream.entries()) == 2


def test_write(stream: Stream) -> None:
    """Entries come to the stream as they are, in their order, and their ids are told."""
    ids = connect(load()).write([ENTRY, {b"event": b'{"n": 2}', b"to": b'{"users": [1]}'}])
    assert ids == [entry.id for entry in stream.entries()]
    assert stream.events() == [{"n": 1}, {"n": 2}]
    assert [entry.rule.everyone for entry in stream.entries()] == [True, False]


def test_history(stream: Stream) -> None:
    """The stream is kept at about as many entries as the settings say."""
    with override_settings(NOTIFYD={"HISTORY": 10}):
        connect(load()).write([ENTRY] * 500)
    # Redis trims by whole nodes, of a hundred entries.
    assert stream.client.xlen("{notifyd}:events") < 200


def test_one_bus(stream: Stream) -> None:
    """A process has one way to the bus for one setting, and connections for its threads."""
    first = connect(load())
    assert connect(load()) is first
    assert connect(Settings(prefix="other")) is not first
    with ThreadPoolExecutor(4) as threads:
        ids = sorted(id_ for [id_] in threads.map(first.write, [[ENTRY]] * 40))
    assert ids == sorted(str(entry.id) for entry in stream.entries())
    assert len(ids) == 40


def test_restart(stream: Stream) -> None:
    """A connection that Redis has closed is made anew, and no event is lost by that."""
    connect(load()).write([ENTRY])
    with stream.server.stopped():
        pass
    connect(load()).write([ENTRY])
    assert len(stream.entries()) == 2


def test_down(stream: Stream) -> None:
    """While Redis is down, the first writer knows soon and the others at once."""
    way = connect(load())
    with stream.server.stopped():
        begun = time.monotonic()
        with pytest.raises(PublishError, match="refused") as caught:
            way.write([ENTRY])
        assert caught.value.reason is Reason.CONNECTION
    # It is back, but nobody looks before the rest is over.
    with pytest.raises(PublishError, match="less than 5 s ago") as caught:
        way.write([ENTRY, ENTRY])
    assert (caught.value.reason, caught.value.count) == (Reason.SUSPENDED, 2)
    assert time.monotonic() - begun < MOST + 1
    assert stream.entries() == []


@pytest.mark.usefixtures("short_rest")
def test_frozen(stream: Stream) -> None:
    """A Redis that doesn't answer may have got the event: it is not written again."""
    way = connect(load())
    way.write([ENTRY])
    with stream.server.paused():
        begun = time.monotonic()
        with pytest.raises(PublishUnknown, match="Timeout") as caught:
            way.write([{b"event": b'{"n": 2}', b"to": b'{"everyone": true}'}])
        assert time.monotonic() - begun < MOST
        assert (caught.value.reason, caught.value.count) == (Reason.UNKNOWN, 1)
    wait_until(lambda: len(stream.entries()) == 2)
    assert stream.events() == [{"n": 1}, {"n": 2}]


def test_frozen_before(stream: Stream) -> None:
    """A Redis that doesn't even answer to the greeting has got nothing."""
    with stream.server.paused():
        begun = time.monotonic()
        with pytest.raises(PublishError) as caught:
            connect(load()).write([ENTRY])
        assert time.monotonic() - begun < MOST
    assert caught.value.reason is Reason.CONNECTION
    assert stream.entries() == []


@pytest.mark.usefixtures("short_rest")
def test_back(stream: Stream) -> None:
    """After a rest somebody tries again, and if that works all do."""
    way = connect(load())

    def works() -> bool:
        with contextlib.suppress(PublishError):
            way.write([ENTRY])
            return True
        return False

    with stream.server.stopped():
        assert not works()
        wait_until(lambda: not works())
    wait_until(works)
    way.write([ENTRY])
    assert len(stream.entries()) == 2


def test_refused(stream: Stream) -> None:
    """What Redis refuses was not written; it answers, so there is no reason for a rest."""
    stream.client.set("{notifyd}:events", "mine")
    with pytest.raises(PublishError, match="WRONGTYPE") as caught:
        connect(load()).write([ENTRY, ENTRY])
    assert (caught.value.reason, caught.value.count) == (Reason.REFUSED, 2)
    stream.client.delete("{notifyd}:events")
    connect(load()).write([ENTRY])
    assert len(stream.entries()) == 1


def test_refused_in_part(stream: Stream) -> None:
    """Of several entries the others are written, and only those that were not are counted."""
    with pytest.raises(PublishError, match="arguments") as caught:
        connect(load()).write([ENTRY, {}, ENTRY])
    assert caught.value.count == 1
    assert len(stream.entries()) == 2


@pytest.mark.usefixtures("seeded")
def test_wrong_password(folder: Path) -> None:
    """A log-in that is refused is told, without the password."""
    with RedisServer(folder, arguments=["--requirepass", "right"]) as server:
        url = server.url.replace("//", "//:s3cret@")
        with (
            override_settings(NOTIFYD={"REDIS_URL": url}),
            pytest.raises(PublishError) as caught,
        ):
            connect(load()).write([ENTRY])
    assert caught.value.reason is Reason.REFUSED
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("seeded")
def test_unknown_command() -> None:
    """A server that repeats what it doesn't understand has its answer cut."""
    answer = b"-ERR unknown command 'AUTH', with args beginning with: 's3cret' \r\n"
    with scripted(answer) as way, pytest.raises(PublishError, match="unknown command") as caught:
        way.write([ENTRY])
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("seeded")
def test_password_in_an_answer() -> None:
    """The password is taken out of whatever else the server says."""
    with (
        scripted(b"+OK\r\n", b"-ERR what is s3cret?\r\n") as way,
        pytest.raises(PublishError, match=r"what is \*\*\*\?"),
    ):
        way.write([ENTRY])


@pytest.mark.usefixtures("seeded")
def test_loading() -> None:
    """A server that is still loading its data has refused the event, and all behind it."""
    answer = b"-LOADING Redis is loading the dataset in memory\r\n"
    with scripted(b"+OK\r\n", answer) as way, pytest.raises(PublishError) as caught:
        way.write([ENTRY, ENTRY])
    assert (caught.value.reason, caught.value.count) == (Reason.REFUSED, 2)


@pytest.mark.usefixtures("seeded")
def test_unknown_in_part() -> None:
    """Of several entries those that were answered are not in doubt."""
    with scripted(b"+OK\r\n", b"$3\r\n1-0\r\n") as way, pytest.raises(PublishUnknown) as caught:
        way.write([ENTRY, ENTRY, ENTRY])
    assert caught.value.count == 2


@pytest.mark.usefixtures("seeded")
def test_no_redis_at_all() -> None:
    """What answers something else is no Redis, and may have done anything with the event."""
    with scripted(b"+OK\r\n", b":what\r\n") as way, pytest.raises(PublishUnknown):
        way.write([ENTRY])


def test_breaker() -> None:
    """After a failure nobody tries for a while, then one, and all again once that worked."""
    breaker = Breaker(5)
    assert [breaker.allows(now) for now in (0, 0)] == [True, True]
    breaker.failed(1)
    assert [breaker.allows(now) for now in (1, 5.9)] == [False, False]
    assert [breaker.allows(now) for now in (6, 6, 10.9)] == [True, False, False]
    breaker.failed(6.5)
    assert [breaker.allows(now) for now in (11.4, 11.5, 11.5)] == [False, True, False]
    breaker.worked()
    assert [breaker.allows(now) for now in (11.6, 11.6)] == [True, True]


def test_unknown_is_no_error() -> None:
    """Whoever repeats what was not written doesn't repeat what may have been."""
    assert not issubclass(PublishUnknown, PublishError)
    assert not issubclass(PublishError, PublishUnknown)


def test_settings_change(stream: Stream) -> None:
    """When a test changes the cache, the bus moves with it."""
    connect(load()).write([ENTRY])
    elsewhere: Any = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": stream.server.url.replace("/0", "/1"),
    }
    with override_settings(CACHES={"default": elsewhere}):
        connect(load()).write([ENTRY])
    connect(load()).write([ENTRY])
    assert len(stream.entries()) == 2
