"""Reading the configuration anew while the daemon runs: all of it is right, or nothing changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from notifyd.core.conflicts import RULES, apply
from notifyd.core.reloads import merge
from notifyd.daemon import logs
from notifyd.daemon.config import ConfigError
from notifyd.daemon.control import ControlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.config import Config
    from notifyd.daemon.systemd import Notifier

log = structlog.stdlib.get_logger()

_TOGETHER: Final = "That is so until a restart, for which {} waits: restart the daemon instead."


@dataclass(slots=True)
class ReloadStats:
    """How the latest reload ended, and when the configuration in effect was read (Unix time)."""

    successful: bool = True
    succeeded_at: float = 0.0


class Reload:
    """Reloads. `read` returns the configuration, complete, and warnings; it raises ConfigError."""

    def __init__(
        self,
        parts: Assembly,
        notifier: Notifier,
        read: Callable[[], tuple[Config, list[str]]],
    ) -> None:
        self._parts = parts
        self._notifier = notifier
        self._read = read
        self.stats = ReloadStats(succeeded_at=time.time())

    async def command(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer `reload`: which options have changed, and which wait for a restart."""
        # Before that the service manager must not hear that the daemon is ready.
        await self._parts.bus.decided.wait()
        self._notifier.reloading()
        try:
            return await self._reload()
        except ConfigError as error:
            self.stats.successful = False
            log.error("config.rejected", faults=error.faults)  # noqa: TRY400 - the faults say all
            raise ControlError(
                "\n".join([*error.faults, "Nothing has changed: the daemon goes on as before."])
            ) from error
        finally:
            self._notifier.ready()

    async def signalled(self) -> None:
        """Reload because of a signal; how it ended stands in the log."""
        try:
            await self.command({})
        except ControlError:
            # It was logged as what it is.
            return

    async def _reload(self) -> Mapping[str, Any]:
        wanted, warnings = self._read()
        for warning in warnings:
            log.warning("config.warned", detail=warning)
        merged = merge(self._parts.config, wanted)
        if faults := apply(RULES, merged.config, ()):
            # What is right as a whole may not be beside what has to wait: origins left out, for
            # example, where the address that needs them is still listened at.
            raise ConfigError([*faults, _TOGETHER.format(", ".join(merged.waiting))])
        if any(key.startswith("log.") for key in merged.changed):
            chosen = merged.config.log
            logs.configure(chosen.level, chosen.format, levels=chosen.levels, fold=chosen.fold)
        await self._parts.reconfigure(merged.config, merged.changed)
        self.stats.successful, self.stats.succeeded_at = True, time.time()
        log.info("config.reloaded", changed=merged.changed, waiting=merged.waiting)
        return {"changed": merged.changed, "waiting": merged.waiting}
