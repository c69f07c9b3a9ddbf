"""What a version of notifyd puts on the wire: written down once, to be understood later.

`PYTHONPATH=tests .venv/bin/python tests/compat/recording.py` writes it down for the version of the
tree, into wire/. That has to be done for each minor version; within one the wire stays the same.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from compat.apps import App, environment
from compat.compatsite.deeds import RECIPIENTS, label
from servers import RedisServer

import notifyd
from notifyd.core import protocol

WIRE = Path(__file__).parent / "wire"

_TIMESTAMP = re.compile(r'"timestamp":"[^"]+"')
_MOMENT = '"timestamp":"2026-01-01T00:00:00+00:00"'

# One of each that the daemon sends, with everything in it that it may have.
_FRAMES = (
    protocol.welcome_frame(
        ticket="t", ticket_ttl=900.0, epoch="e", last_id="1-0", recovered=True, ping=25.0, ack=0.01
    ),
    protocol.ticket_frame("t", 900.0),
    protocol.ping_frame("1-0"),
    protocol.resync_frame("history is gone", epoch="e", last_id="1-0"),
    protocol.closing_frame(1.5),
)


def minor(version: str) -> str:
    """Return the minor version, which the file of a recording is named after."""
    return ".".join(version.split(".")[:2])


def place(version: str) -> Path:
    """Return where the recording of a version is."""
    return WIRE / f"{minor(version)}.json"


def frames() -> list[dict[str, Any]]:
    """Return the control frames of the tree's daemon."""
    return [json.loads(frame[frame.index(b"{") :]) for frame in _FRAMES]


def record(folder: Path) -> dict[str, Any]:
    """Return the recording of the tree, made in an empty folder."""
    with (
        RedisServer(folder) as redis,
        App(environment(folder, redis.url, url="ws://localhost:8888/")) as app,
    ):
        app.do("prepare")
        app.do("act")
        client: Any = redis.client(decode_responses=True)
        found = [fields for _, fields in client.xrange("{notifyd}:events")]
        return {
            "entries": [_entry(fields) for fields in found if "event" in fields],
            "controls": [json.loads(each["control"]) for each in found if "control" in each],
            "people": app.do("people"),
            "answer": app.do("ask", "nadia"),
            "frames": frames(),
        }


def _entry(fields: dict[str, str]) -> dict[str, Any]:
    return {
        "fields": {name: _TIMESTAMP.sub(_MOMENT, value) for name, value in fields.items()},
        "recipients": sorted(RECIPIENTS[label(json.loads(fields["event"]))]),
    }


def main() -> None:
    """Write the recording of the tree."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as folder:
        text = json.dumps(record(Path(folder)), indent=1, ensure_ascii=False)
    place(notifyd.__version__).write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()
