from __future__ import annotations

import logging
import re
import uuid

from notifyd.core.records import EVENTS


def test_names_are_noun_and_verb() -> None:
    """An event is called noun.verb."""
    assert not [name for name in EVENTS if not re.fullmatch(r"[a-z]+\.[a-z_]+", name)]


def test_levels_exist() -> None:
    """An event's level is one of logging's."""
    levels = {name.lower() for name in logging.getLevelNamesMapping()}
    assert {event.level for event in EVENTS.values()} <= levels


def test_every_event_is_explained() -> None:
    """An event's meaning and what to do about it are sentences."""
    texts = [text for event in EVENTS.values() for text in (event.meaning, event.action)]
    assert not [text for text in texts if not text.endswith(".")]


def test_whoever_reads_an_alarm_learns_what_to_do() -> None:
    """From a warning up there is something to do."""
    calm = {"debug", "info"}
    assert not [
        name
        for name, event in EVENTS.items()
        if event.level not in calm and event.action == "Nothing."
    ]


def test_message_ids_are_unique() -> None:
    """Each MESSAGE_ID is a random one of 128 bits, and no other event's."""
    ids = [event.id for event in EVENTS.values() if event.id is not None]
    assert len({*ids}) == len(ids) > 0
    assert not [each for each in ids if not re.fullmatch(r"[0-9a-f]{32}", each)]
    assert not [each for each in ids if uuid.UUID(each).version != 4]


def test_what_makes_lines_alike() -> None:
    """Lines are folded by fields that the event has."""
    assert not [
        name for name, event in EVENTS.items() if not {*(event.alike or ())} <= {*event.fields}
    ]


def test_what_is_always_told() -> None:
    """The daemon's own life, its configuration and the bus are never folded, nor critical lines."""
    told = ("service.", "config.", "handover.", "bus.")
    folded = {name: event for name, event in EVENTS.items() if event.alike is not None}
    assert not [name for name in folded if name.startswith(told)]
    assert "critical" not in {event.level for event in folded.values()}
