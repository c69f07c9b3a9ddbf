"""The newsroom's settings, and a Content Security Policy that lets no inline script through."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from newsroom.settings import *  # noqa: F403 - settings that differ in one thing
from newsroom.settings import MIDDLEWARE as THEIRS

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

MIDDLEWARE = ["strict.policy", *THEIRS]


def policy(get_response: Callable[[HttpRequest], HttpResponse]) -> object:
    """Return the middleware that sends the policy with every page."""
    words = f"script-src 'self'; connect-src 'self' {os.environ['NEWSROOM_WEBSOCKET']}"

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = words
        return response

    return respond
