from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import structlog
from e2e.service_manager import ServiceManager
from newsrooms import Newsroom

from notifyd.core.login import Refused, Result
from notifyd.core.option_table import OPTIONS
from notifyd.daemon.assembly import Assembly
from notifyd.daemon.config import Config, ConfigError, Redis, Server
from notifyd.daemon.control import ControlError
from notifyd.daemon.metrics import Metrics
from notifyd.daemon.service_reload import Reload
from notifyd.daemon.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytest_plugins = ["newsroom_fixtures"]

RUNNING = Config(
    server=Server(listen=("0.0.0.0:8888",), origins=("https://example.org",)),
    redis=Redis(url="redis://127.0.0.1:1/0"),
)


class Change(NamedTuple):
    """Another value of an option, and where a part has it, or what it makes of it."""

    value: Any
    seen: Callable[[Any], Any]
    effect: Any = None


CHANGES = {
    "server.origins": Change(
        ("https://www.example.com",), lambda parts: tuple(parts.server._policy.origins[1:])
    ),
    "server.path": Change("/ws/", lambda parts: parts.admission._path),
    "server.trusted_proxies": Change(
        ("192.0.2.1",),
        lambda parts: parts.admission._address_of("192.0.2.1", ["203.0.113.5"]),
        "203.0.113.5",
    ),
    "server.handshake_timeout": Change(1.0, lambda parts: parts._timers._handshakes._seconds),
    "server.hello_timeout": Change(1.0, lambda parts: parts._timers._hellos._seconds),
    "server.ping_timeout": Change(1.0, lambda parts: parts._timers._answers._seconds),
    "server.close_timeout": Change(1.0, lambda parts: parts._timers._farewells._seconds),
    "server.max_connections": Change(7, lambda parts: parts.server._max_connections),
    "server.max_connections_per_address": Change(
        7, lambda parts: parts.admission._most_per_address
    ),
    "server.max_connections_per_user": Change(7, lambda parts: parts.admission._most_per_user),
    "server.acknowledge": Change(0.5, lambda parts: parts.admission._acknowledge),
    "server.max_message": Change(777, lambda parts: parts.server._policy.max_message),
    "server.messages_per_second": Change(
        7.0, lambda parts: parts.server._policy.messages_per_second
    ),
    "server.buffer": Change(77_777, lambda parts: parts.debts._buffer),
    "server.bare_buffer": Change(77_777, lambda parts: parts.debts._bare_buffer),
    "server.progress_timeout": Change(1.0, lambda parts: parts._timers._progress._seconds),
    "server.history": Change(7_777_777, lambda parts: parts.history.most),
    "server.total_buffer": Change(7_777_777, lambda parts: parts.debts._total_buffer),
    # What the service looks up when it stops.
    "server.drain": Change(1.0, lambda parts: parts.config.server.drain),
    "redis.url": Change("redis://127.0.0.1:2/0", lambda parts: str(parts.bus.archive._url)),
    # What `disconnect` looks up.
    "redis.maxlen": Change(7, lambda parts: parts.config.redis.maxlen),
    "auth.timeout": Change(7.0, lambda parts: parts.authenticator.timeout),
    "auth.lifetime": Change(
        7.0,
        lambda parts: (parts.logins._lifetime, parts.logins._tickets._lifetime),
        (7.0, 7.0),
    ),
    "auth.ticket_ttl": Change(
        7.0, lambda parts: (parts.logins._ttl, parts.logins._tickets._ttl), (7.0, 7.0)
    ),
    "auth.sweep": Change(7.0, lambda parts: parts.sweep.interval),
    "auth.failures_per_second": Change(7.0, lambda parts: parts.authenticator._failures._rate),
    "auth.failures_burst": Change(7, lambda parts: parts.authenticator._failures._burst),
    "log.level": Change("error", lambda _: logging.getLogger("notifyd").level, logging.ERROR),
    "log.format": Change(
        "journal", lambda _: type(logging.getLogger().handlers[0]).__name__, "Journal"
    ),
    "log.levels": Change(
        ("redis=error",), lambda _: logging.getLogger("redis").level, logging.ERROR
    ),
    "log.fold": Change(7.0, lambda _: vars(logging.getLogger().handlers[0]).get("_fold")),
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "notifyd", "redis")]
    root, levels = loggers[0], [each.level for each in loggers]
    handlers, before = root.handlers[:], structlog.get_config()
    yield
    for handler in {*root.handlers} - {*handlers}:
        handler.close()
    root.handlers[:] = handlers
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)
    structlog.configure(**before)


@pytest.fixture
async def parts(newsroom: Newsroom) -> AsyncIterator[Assembly]:
    """Give the parts of a daemon that has tried to reach its Redis."""
    assert isinstance(newsroom, Newsroom)
    parts = Assembly(RUNNING, Metrics())
    parts.bus.decided.set()
    yield parts
    await parts.authenticator.close()


def changed(config: Config, values: dict[str, Any]) -> Config:
    """Return a configuration with other values of some options."""
    for key, value in values.items():
        section, _, name = key.partition(".")
        part = dataclasses.replace(getattr(config, section), **{name: value})
        config = dataclasses.replace(config, **{section: part})
    return config


def reload(parts: Assembly, **values: Any) -> Reload:
    """Return what reads a configuration with these values: server__path is server.path."""
    wanted = changed(RUNNING, {key.replace("__", "."): value for key, value in values.items()})
    return Reload(parts, Notifier(), lambda: (wanted, []))


def test_no_option_is_left_out() -> None:
    """Of every option that a reload changes it is known where it takes effect."""
    assert CHANGES.keys() == {key for key, option in OPTIONS.items() if option.reload}


@pytest.mark.parametrize("key", CHANGES)
async def test_every_option(parts: Assembly, key: str) -> None:
    """An option that a reload is said to change reaches the part that goes by it."""
    value, seen, effect = CHANGES[key]
    expected = value if effect is None else effect
    assert seen(parts) != expected
    answer = await reload(parts, **{key.replace(".", "__"): value}).command({})
    assert answer == {"changed": [key], "waiting": []}
    assert seen(parts) == expected


async def test_only_right_with_a_restart(parts: Assembly) -> None:
    """What would be wrong beside an option that waits for a restart is refused: nothing changes."""
    # It still listens where other machines reach it, and must know whose pages may connect.
    reloading = reload(
        parts, server__listen=("localhost:8888",), server__origins=(), log__level="error"
    )
    with pytest.raises(ControlError) as raised:
        await reloading.command({})
    assert "server.origins = [] (default) must be set" in str(raised.value)
    assert "for which server.listen waits" in str(raised.value)
    assert parts.config == RUNNING
    assert not reloading.stats.successful


async def test_failures_are_remembered(parts: Assembly) -> None:
    """Who has failed too often stays out over a reload that does not touch those limits."""
    for _ in range(RUNNING.auth.failures_burst):
        parts.authenticator._charge(Result.INVALID, "203.0.113.5")
    await reload(parts, server__path="/ws/").command({})
    with pytest.raises(Refused):
        parts.authenticator.check("203.0.113.5")


async def test_the_latest_reload(parts: Assembly) -> None:
    """It is told whether the latest reload succeeded, and since when the configuration counts."""

    def read() -> tuple[Config, list[str]]:
        if faults:
            raise ConfigError(faults)
        return RUNNING, []

    faults = ["server.drain = -1 (file x) is wrong."]
    reloading = Reload(parts, Notifier(), read)
    began = reloading.stats.succeeded_at
    await reloading.signalled()
    assert (reloading.stats.successful, reloading.stats.succeeded_at) == (False, began)
    faults.clear()
    await reloading.signalled()
    assert reloading.stats.successful
    assert reloading.stats.succeeded_at > began


async def test_before_the_daemon_is_ready(
    parts: Assembly, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload that is asked for too early waits: its end would say that clients are served."""
    parts.bus.decided.clear()
    with ServiceManager(folder / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
        notifier = Notifier()
        reloading = Reload(parts, notifier, lambda: (RUNNING, []))
        early = asyncio.create_task(reloading.signalled())
        await asyncio.sleep(0)
        assert manager.heard() == []
        parts.bus.decided.set()
        await early
        first, _, last = manager.heard()
        notifier.close()
    assert (first, last) == ("RELOADING=1", "READY=1")
