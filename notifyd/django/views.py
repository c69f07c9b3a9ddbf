"""The view that gives a page what it needs to connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.contrib.auth.decorators import login_not_required
from django.http import JsonResponse
from django.http.request import split_domain_port
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST
from sesame.utils import get_token

from notifyd.django.settings import load

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

SCOPE: Final = "notifyd"
"""What the token is good for: nobody can log in to the site with it."""

PORT: Final = 8888
"""Where the daemon listens by default."""


# Whoever isn't logged in is told so, instead of being sent to where they could log in; and before
# their CSRF token is looked at, which may have gone with their session.
@login_not_required
@csrf_exempt
@require_POST
@cache_control(no_store=True)
def token(request: HttpRequest) -> HttpResponse:
    """Answer with a new token of the user, and with the address of the daemon."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "not logged in"}, status=401)
    return _token(request)


@csrf_protect
def _token(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"token": get_token(request.user, SCOPE), "url": _url(request)})


def _url(request: HttpRequest) -> str:
    if url := load().url:
        return url
    scheme = "wss" if request.is_secure() else "ws"
    host, _port = split_domain_port(request.get_host())
    return f"{scheme}://{host}:{PORT}/"
