"""Entries of the bus as text."""

from __future__ import annotations

from notifyd.core.entry_text import as_object, as_words


def test_object() -> None:
    """An entry of the stream is its id and its fields, decoded where they are JSON."""
    fields = {b"event": b'{"n": 1}', b"to": b'{"users": [7]}', b"more": "é".encode()}
    assert as_object("5-0", fields, "events") == {
        "id": "5-0",
        "event": {"n": 1},
        "to": {"users": [7]},
        "more": "é",
    }


def test_object_of_the_channel() -> None:
    """A message of the channel has no id: it tells the channel instead."""
    assert as_object(None, {b"event": b"not \xff JSON"}, "events") == {
        "channel": "events",
        "event": "not \ufffd JSON",
    }


def test_deep_object() -> None:
    """What is nested too deeply to be decoded is shown as it is."""
    deep = "[" * 100_000
    assert as_object("5-0", {b"event": deep.encode()}, "events")["event"] == deep


def test_words() -> None:
    """A line for people begins with the time, and has the JSON behind the name of each field."""
    entry = {"id": "1763797912345-0", "event": {"text": "é"}, "to": {"users": [7]}}
    assert as_words(entry, colours=False) == (
        '07:51:52.345 1763797912345-0 event {"text": "é"} to {"users": [7]}'
    )


def test_words_of_the_channel() -> None:
    """Of a message of the channel nobody knows the time."""
    line = as_words({"channel": "events", "event": {}}, colours=False)
    assert line == "channel events event {}"


def test_colours() -> None:
    """Colours tell the names of the fields from what is in them, and end behind each."""
    assert as_words({"channel": "e", "control": {}, "x": 1}, colours=True) == (
        "\x1b[2mchannel e\x1b[m \x1b[35mcontrol\x1b[m {} \x1b[2mx\x1b[m 1"
    )


def test_strangers() -> None:
    """Nothing in an entry is obeyed by the terminal."""
    line = as_words({"channel": "\x1b[2J", "\r": "\x9b\u202e"}, colours=False)
    assert line == 'channel \\x1b[2J \\r "\\x9b\\u202e"'


def test_time_beyond_all_calendars() -> None:
    """An id that somebody made up may be beyond all calendars."""
    line = as_words({"id": f"{2**64 - 1}-0"}, colours=False)
    assert line == f"- {2**64 - 1}-0"
