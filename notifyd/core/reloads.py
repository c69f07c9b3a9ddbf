"""What a reload changes: the options that can take effect while the daemon runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from notifyd.core.option_table import OPTIONS

if TYPE_CHECKING:
    from notifyd.core.options import Config


class Merged(NamedTuple):
    """The configuration in effect after a reload, the options it changed, and those that wait.

    What waits has the running value until the daemon is restarted.
    """

    config: Config
    changed: list[str]
    waiting: list[str]


def merge(running: Config, wanted: Config) -> Merged:
    """Return what becomes of a running configuration when another one is read."""
    changed, waiting = [], []
    parts: dict[str, dict[str, Any]] = {}
    for key, option in OPTIONS.items():
        if option.of(running) == option.of(wanted):
            continue
        if option.reload:
            changed.append(key)
            parts.setdefault(option.section, {})[option.name] = option.of(wanted)
        else:
            waiting.append(key)
    sections: dict[str, Any] = {
        section: dataclasses.replace(getattr(running, section), **values)
        for section, values in parts.items()
    }
    sources = {
        key: source
        for key in OPTIONS
        if (source := (running if key in waiting else wanted).sources.get(key)) is not None
    }
    return Merged(dataclasses.replace(running, **sections, sources=sources), changed, waiting)
