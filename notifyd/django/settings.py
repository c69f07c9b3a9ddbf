"""The app's one setting, NOTIFYD: a dict with any of the keys of `Settings`, in capitals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(NamedTuple):
    """What a value must be, in words and as a test."""

    words: str
    fits: Callable[[object], bool]


# By type and not by isinstance: a bool is an int, but no number of entries.
_FLAG: Final = Kind("True or False", lambda value: type(value) is bool)
_COUNT: Final = Kind("an integer above 0", lambda value: type(value) is int and value > 0)
_WORD: Final = Kind(
    "a text without blanks and braces",
    lambda value: isinstance(value, str) and re.fullmatch(r"[^\s{}]+", value) is not None,
)
_NAME: Final = Kind(
    "a text that is not empty", lambda value: isinstance(value, str) and value != ""
)
_TEXT: Final = Kind("a text or None", lambda value: value is None or isinstance(value, str))


def _option(default: Any, kind: Kind, meaning: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"kind": kind, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The setting with its defaults. An empty text is as good as None."""

    enabled: bool = _option(True, _FLAG, "whether to publish; a site's tests may have no Redis")
    cache_alias: str = _option("default", _NAME, "the cache at whose address the bus is")
    redis_url: str | None = _option(None, _TEXT, "the bus's own address instead", secret=True)
    prefix: str = _option("notifyd", _WORD, "the first part of the bus's keys, as the daemon's")
    history: int = _option(100_000, _COUNT, "about how many entries the bus keeps")
    url: str | None = _option(None, _TEXT, "where browsers reach the daemon: wss://... or ws://...")


KINDS: Final[dict[str, Kind]] = {
    option.name.upper(): option.metadata["kind"] for option in fields(Settings)
}
"""The keys that NOTIFYD may have, and what their values must be."""


def load() -> Settings:
    """Return the setting as it is now: a test may override it. Keys it doesn't know are ignored.

    Raises ImproperlyConfigured for a value that can't be used.
    """
    given = value()
    if wrong := faults(given):
        raise ImproperlyConfigured(" ".join(wrong))
    return Settings(**{key.lower(): given[key] for key in KINDS if key in given})


def publishing() -> Settings | None:
    """Return the setting, None if it is faulty, which a check tells, or says not to publish."""
    if faults(value()):
        return None
    given = load()
    return given if given.enabled else None


def value() -> Any:
    """Return what the site has set, whatever it is."""
    return getattr(settings, "NOTIFYD", {})


def faults(given: object) -> list[str]:
    """Return what is wrong with the values of a NOTIFYD, one sentence each, without quoting it."""
    if not isinstance(given, dict):
        return ["NOTIFYD must be a dict."]
    return [
        f"NOTIFYD[{key!r}] must be {kind.words}."
        for key, kind in KINDS.items()
        if key in given and not kind.fits(given[key])
    ]
