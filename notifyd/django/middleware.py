"""The middleware by which a page misses nothing of what happens while it is on its way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured

from notifyd.django.bus import BusError, Reason, connect
from notifyd.django.settings import publishing

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

log = logging.getLogger("notifyd")

_PLACES: Final = {"document", "iframe", "frame", "object", "embed", "empty"}
"""What a page may be for; "empty" is a script that puts it somewhere by itself."""


class PositionMiddleware:
    """Note where the bus stands before the page is made: from there it will receive events.

    Whatever is published later, the page may have been made without. So this comes before
    everything that reads the database: it is the first of all.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        self._told = False
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Return the response, or for async sites what they await to get it."""
        if self._is_async:
            return self._respond(request)
        if may_be_page(request):
            self._note(request)
        return self._get_response(request)

    async def _respond(self, request: HttpRequest) -> Any:
        if may_be_page(request):
            await sync_to_async(self._note, thread_sensitive=False)(request)
        return await self._get_response(request)

    def _note(self, request: Any) -> None:
        request.notifyd_position = self._position()

    def _position(self) -> tuple[str, str] | None:
        try:
            settings = publishing()
            position = None if settings is None else connect(settings).position()
        except ImproperlyConfigured:
            # There is no address, which a check tells, and whoever publishes.
            return None
        except BusError as error:
            # Once, and again after it has worked: there may be many pages.
            if not self._told and error.reason is not Reason.SUSPENDED:
                self._told = True
                log.warning("pages are made without a position: %s", error)
            return None
        self._told = False
        return position


def may_be_page(request: HttpRequest) -> bool:
    """Tell whether the answer may be a page, and not a picture of one, or data for one."""
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("Accept", "")
        and request.headers.get("Sec-Fetch-Dest", "document") in _PLACES
    )
