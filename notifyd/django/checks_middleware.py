"""What `manage.py check` has to say about MIDDLEWARE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings as site
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from notifyd.django import settings
from notifyd.django.middleware import PositionMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

    Message = checks.CheckMessage


def check_middleware(**_: object) -> list[Message]:
    """Look whether PositionMiddleware comes before everything that may read the database."""
    if settings.publishing() is None:
        return []
    return [
        checks.Warning(
            f"PositionMiddleware {fault}.",
            hint="List it once, as the first of MIDDLEWARE: what is published after the database "
            "was read, and before the position is noted, a page would miss.",
            id="notifyd.W009",
        )
        for fault in _faults()
    ]


def _faults() -> Iterator[str]:
    ancestors = [(path, _ancestors(path)) for path in site.MIDDLEWARE]
    places = [place for place, (_, found) in enumerate(ancestors) if PositionMiddleware in found]
    if len(places) > 1:
        yield "is in MIDDLEWARE more than once"
    for path, found in ancestors[: places[0]] if places else ():
        # Sessions, users, sites: all in the database. Django's others leave it alone.
        if any(each.__module__.startswith("django.contrib.") for each in found):
            yield f"comes after {path}, which may read the database"
            return


def _ancestors(path: str) -> tuple[Any, ...]:
    try:
        middleware = import_string(path)
    except (ImportError, ImproperlyConfigured):
        # It can't be imported, which is another check's matter; or its settings are missing.
        return ()
    return getattr(middleware, "__mro__", ())
