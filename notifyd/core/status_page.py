"""The page that `notifyd status` shows to people, made of what it prints for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from notifyd.core.screen import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CLIENTS: Final = "slowest_clients"
_ERRORS: Final = "recent_errors"

_HEADING: Final = ("user", "address", "connection", "bytes owed", "seconds behind", "position")

_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))

# What every line of the log has; the rest are an event's own fields.
_ALWAYS: Final = frozenset({"timestamp", "level", "event", "times"})


def page(status: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page: a row for each value, then the clients, then the errors.

    What is missing, since another version of the daemon answers, is left out.
    """
    rows = [
        row
        for name, value in status.items()
        if name not in {_CLIENTS, _ERRORS}
        for row in _rows(name, value)
    ]
    lines = table(rows)
    if clients := status.get(_CLIENTS):
        lines += ["", "slowest clients", *_clients(clients)]
    if errors := status.get(_ERRORS):
        lines += ["", "recent errors", *_errors(errors)]
    return lines


def _rows(name: str, value: Any) -> Iterator[tuple[str, str]]:
    match name:
        case "bus":
            for part, each in value.items():
                if each is not None:
                    yield _spaced(f"{name}_{part}"), _words(each)
        case "failing":
            reasons = [f"{check}: {reason}" for check, reason in value.items()]
            yield "ready", f"no, {'; '.join(reasons)}" if reasons else "yes"
        case "uptime":
            yield name, _duration(value)
        case _:
            yield _spaced(name), _words(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _words(value: Any) -> str:
    match value:
        case dict():
            # Of counts those that count nothing only hide the others.
            told = {name: each for name, each in value.items() if type(each) is not int or each}
            pairs = [f"{_spaced(name)} {_words(each)}" for name, each in told.items()]
            return ", ".join(pairs) or "-"
        case list():
            return ", ".join(map(str, value)) or "-"
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case _:
            return str(value)


def _duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    left, parts = int(seconds), []
    for step, unit in _STEPS:
        if left >= step:
            parts.append(f"{left // step} {unit}")
            left %= step
    return " ".join([*parts, f"{left} s"][:2])


def _clients(clients: Sequence[Mapping[str, Any]]) -> list[str]:
    fields = ("user", "address", "connection", "owed", "behind_seconds", "position")
    rows = [[_words(client.get(field)) for field in fields] for client in clients]
    return _indented(table([_HEADING, *rows]))


def _errors(errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each: when it came last, how often, and what it says."""
    rows = [
        [
            _words(error.get("timestamp")),
            _words(error.get("level")),
            " ".join([_words(error.get("event")), *_details(error)]),
        ]
        for error in errors
    ]
    return _indented(table(rows))


def _details(error: Mapping[str, Any]) -> Iterator[str]:
    if (times := error.get("times", 1)) > 1:
        yield f"({times} times)"
    for name, value in error.items():
        if name not in _ALWAYS and value is not None:
            yield f"{name}={_words(value)}"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
