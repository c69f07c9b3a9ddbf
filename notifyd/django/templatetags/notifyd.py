"""``{% load notifyd %}{% notifyd %}``: the script that receives events in a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.middleware.csrf import get_token
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html

if TYPE_CHECKING:
    from django.template import Context
    from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def notifyd(context: Context) -> SafeString | str:
    """Return the element that loads notifyd.js; nothing where nobody is logged in.

    There is no inline script, so that a strict Content Security Policy may stay strict. If it
    works with nonces, the element has the one of the request.

    With PositionMiddleware the page receives what was published since its request came; without, or
    where Redis was away, what is published from when it connects.
    """
    request: Any = context.get("request") or getattr(context, "request", None)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return ""
    position = getattr(request, "notifyd_position", None)
    nonce = getattr(request, "csp_nonce", context.get("csp_nonce"))
    return format_html(
        '<script src="{}" data-token-url="{}" data-csrf-token="{}"{}{} defer></script>',
        static("notifyd/notifyd.js"),
        reverse("notifyd:token"),
        get_token(request),
        "" if position is None else format_html(' data-epoch="{}" data-since="{}"', *position),
        # A lazy one is false until somebody has asked for its text.
        "" if nonce is None else format_html(' nonce="{}"', str(nonce)),
    )
