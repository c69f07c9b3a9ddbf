"""The options of the commands that are about events: what to publish, explain, and show."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Final

from notifyd.core.batch import SOURCES
from notifyd.core.positions import parse_position
from notifyd.core.traceparent import parse_traceparent

if TYPE_CHECKING:
    from notifyd.core.positions import Position


_AUDIENCE: Final = (
    ("--group", "PK", "the members of this group"),
    ("--permission", "APP.CODENAME", "users who have this permission"),
    ("--content-type", "PK", "users who may view or change this model"),
)


def add_publish(publish: argparse.ArgumentParser) -> None:
    """Add the options of `publish`."""
    publish.description = (
        "Write an event to the bus. Without an audience the event's content_type_id decides who"
        " sees it. Several options are alternatives: who matches any of them gets the event."
    )
    publish.add_argument(
        "event", metavar="EVENT", help="the event, one JSON object; - reads it from standard input"
    )
    publish.add_argument(
        "--traceparent",
        type=_traceparent,
        metavar="HEADER",
        help="the trace that the event belongs to, as W3C's header of that name has it",
    )
    _add_audience(publish, ("--user", "PK", "the user with this primary key"), *_AUDIENCE)


def _traceparent(text: str) -> bytes:
    try:
        return str(parse_traceparent(text)).encode()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_explain(explain: argparse.ArgumentParser) -> None:
    """Add the options of `explain`."""
    explain.description = (
        "Tell who would get an event if it came now, who would not, and why: no permission, not"
        " connected, what the user may see is being read anew, too slow, or a limit. The event is"
        " one of the stream, one as JSON, or any with the audience given. It asks the running"
        " daemon, and only about that one's connections; nothing is published."
    )
    explain.add_argument(
        "event",
        metavar="EVENT",
        nargs="?",
        help="the id of an event in the stream, or an event, one JSON object; - reads it from"
        " standard input",
    )
    explain.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="PK",
        help="tell all about this user, and about nobody else; may be repeated. Without an event"
        " and an audience it is about an event for this user alone",
    )
    explain.add_argument("--json", action="store_true", help="print it as JSON")
    _add_audience(explain, *_AUDIENCE)


def _add_audience(parser: argparse.ArgumentParser, *alternatives: tuple[str, str, str]) -> None:
    audience = parser.add_argument_group("audience (each but the last may be repeated)")
    for option, metavar, words in alternatives:
        audience.add_argument(option, action="append", default=[], metavar=metavar, help=words)
    audience.add_argument("--everyone", action="store_true", help="everyone who is connected")


def add_tail(tail: argparse.ArgumentParser) -> None:
    """Add the options of `tail`."""
    tail.description = (
        "Print events as they pass on the bus until Ctrl-C, one JSON object a line, on a terminal a"
        " line for people. Events of the stream come with their id, those of the Pub/Sub channel"
        " without. It reads Redis itself, and needs no daemon."
    )
    tail.add_argument(
        "--source",
        choices=SOURCES,
        metavar="|".join(SOURCES),
        help="only the stream, or only the channel",
    )
    for option, metavar, words in (
        ("--content-type", "PK", "only events about this model; may be repeated"),
        ("--user", "PK", "only what names this user as its audience; may be repeated"),
    ):
        tail.add_argument(option, action="append", default=[], metavar=metavar, help=words)
    tail.add_argument(
        "--grep", default="", metavar="TEXT", help="only lines with this text, capitals and all"
    )
    tail.add_argument(
        "--since",
        type=_since,
        metavar="ID|SECONDS",
        help="begin with what the stream has behind this id, or of the last so many seconds",
    )
    tail.add_argument("--json", action="store_true", help="JSON on a terminal, too")


def _since(text: str) -> Position | float:
    try:
        return parse_position(text) if "-" in text else _seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an id, as 1763797912345-0, nor a number of seconds"
        ) from error


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError("not a time")
    return seconds
