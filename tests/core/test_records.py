from __future__ import annotations

import logging
import re

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
