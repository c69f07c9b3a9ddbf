"""The bus as tests of the site's side see it: what has arrived there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from notifyd.core.events import Event, parse_entry

if TYPE_CHECKING:
    from servers import RedisServer


class Stream:
    """The events on the bus, judged as the daemon judges them."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client: Any = server.client()

    def entries(self, prefix: str = "notifyd") -> list[Event]:
        """Return what was published, oldest first."""
        found = []
        for id_, fields in self.client.xrange(f"{{{prefix}}}:events"):
            entry = parse_entry(fields, id_.decode())
            # What the daemons themselves are told is no event.
            if isinstance(entry, Event):
                found.append(entry)
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the events as pages get them, but for their ids."""
        found: list[dict[str, Any]] = [json.loads(entry.text) for entry in self.entries()]
        for event in found:
            del event["id"]
        return found
