"""What other versions put on the wire is understood, as far as one version can be ahead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from compat.apps import App, environment
from compat.recording import WIRE, frames, minor, place, record
from compat.releases import neighbours

import notifyd
from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.controls import Order, parse_order
from notifyd.core.events import Event, parse_entry
from notifyd.core.protocol import parse_hello
from notifyd.daemon.auth_project import SCOPE

if TYPE_CHECKING:
    from pathlib import Path

OURS = minor(notifyd.__version__)
THEIRS = sorted(neighbours(notifyd.__version__, [f"v{path.stem}.0" for path in WIRE.iterdir()]))


def recorded(version: str) -> dict[str, Any]:
    """Return the recording of a version."""
    return dict(json.loads(place(version).read_text("utf-8")))


def kind(value: object) -> str:
    """Return what JSON calls the type of a value; there is only one of numbers."""
    return "number" if type(value) in {int, float} else type(value).__name__


def form(recording: dict[str, Any]) -> list[Any]:
    """Return what a recording is about, without what Django may word otherwise."""
    entries = [
        {
            "keys": [(key, kind(each)) for key, each in json.loads(fields["event"]).items()],
            "to": json.loads(fields.get("to", "null")),
        }
        for fields in (entry["fields"] for entry in recording["entries"])
    ]
    return [entries, recording["controls"], sorted(recording["answer"]), recording["frames"]]


def test_recorded(folder: Path) -> None:
    """Within a minor version the wire stays as it is recorded (recording.py writes a new one)."""
    assert OURS in THEIRS
    assert form(record(folder)) == form(recorded(OURS))


@pytest.mark.parametrize("version", THEIRS)
def test_entries(version: str) -> None:
    """What their app publishes goes to the people it is for."""
    recording, vocabulary = recorded(version), Vocabulary()
    for entry in recording["entries"]:
        fields = {name.encode(): value.encode() for name, value in entry["fields"].items()}
        parsed = parse_entry(fields, "1-0")
        assert isinstance(parsed, Event)
        seeing = [
            name
            for name, person in recording["people"].items()
            if Audience.build(
                vocabulary,
                permissions=person["permissions"],
                content_types=person["content_types"],
                groups=person["groups"],
                superuser=person["superuser"],
            ).sees(parsed.rule, person["user"])
        ]
        assert sorted(seeing) == entry["recipients"]


@pytest.mark.parametrize("version", THEIRS)
def test_controls(version: str) -> None:
    """What their app tells the daemons themselves asks for something."""
    orders = [parse_order(control) for control in recorded(version)["controls"]]
    assert orders
    assert Order() not in orders


@pytest.mark.parametrize("version", THEIRS)
def test_token(version: str, folder: Path) -> None:
    """The token that their view has made is one for our daemon, in a hello and bare."""
    token = recorded(version)["answer"]["token"]
    assert parse_hello(json.dumps({"token": token})).token == token
    assert parse_hello(token).bare
    with App(environment(folder, "redis://127.0.0.1:1/0")) as app:
        app.do("prepare")
        assert app.do("accept", token, SCOPE) == "nadia"
        assert app.do("accept", token, "") == "None"


@pytest.mark.parametrize("version", THEIRS)
def test_frames(version: str) -> None:
    """Our control frames have what their notifyd.js may look for, of the same type or null."""
    ours = {frame["notifyd"]: frame for frame in frames()}
    for frame in recorded(version)["frames"]:
        same = ours[frame["notifyd"]]
        assert frame.keys() <= same.keys()
        both = [{kind(frame[key]), kind(same[key])} - {"NoneType"} for key in frame]
        assert all(len(kinds) <= 1 for kinds in both)


@pytest.mark.parametrize(
    ("version", "tags", "found"),
    [
        ("0.1.0", [], {}),
        ("0.1.0", ["v0.1.0"], {"0.1": "v0.1.0"}),
        ("0.3.1", ["v0.1.0", "v0.2.9", "v0.2.10", "v0.3.0"], {"0.2": "v0.2.10", "0.3": "v0.3.0"}),
        ("0.2.7", ["v0.1.4", "v0.3.0", "v0.4.0"], {"0.1": "v0.1.4", "0.3": "v0.3.0"}),
        ("1.0.0", ["v0.8.0", "v0.9.0", "v1.0.0rc1", "other"], {"0.9": "v0.9.0"}),
    ],
)
def test_neighbours(version: str, tags: list[str], found: dict[str, str]) -> None:
    """Of the releases those count that are one minor version away at most, the newest of each."""
    assert neighbours(version, tags) == found
