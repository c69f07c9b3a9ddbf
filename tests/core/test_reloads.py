from __future__ import annotations

from notifyd.core.options import Admin, Config, Log, Server
from notifyd.core.reloads import merge

RUNNING = Config(
    server=Server(drain=1.0),
    sources={"server.drain": "file a", "admin.listen": "file a"},
)


def test_nothing_new() -> None:
    """The same configuration changes nothing."""
    merged = merge(RUNNING, RUNNING)
    assert (merged.config, merged.changed, merged.waiting) == (RUNNING, [], [])


def test_what_a_reload_changes() -> None:
    """An option that a reload can change has its new value and its new source."""
    wanted = Config(server=Server(drain=2.0), sources={"server.drain": "file b"})
    merged = merge(RUNNING, wanted)
    assert merged.changed == ["server.drain"]
    assert merged.config.server.drain == 2.0
    assert merged.config.sources["server.drain"] == "file b"


def test_what_waits_for_a_restart() -> None:
    """An option that needs a restart is named, and keeps its running value and source."""
    wanted = Config(
        server=Server(drain=1.0),
        admin=Admin(listen="127.0.0.1:1"),
        log=Log(level="debug"),
        sources={"admin.listen": "file b", "log.level": "file b"},
    )
    merged = merge(RUNNING, wanted)
    assert (merged.changed, merged.waiting) == (["log.level"], ["admin.listen"])
    assert merged.config.admin == RUNNING.admin
    assert merged.config.log.level == "debug"
    assert merged.config.sources == {"admin.listen": "file a", "log.level": "file b"}
