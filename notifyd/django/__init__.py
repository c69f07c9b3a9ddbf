"""The app for the Django site: it publishes events, and lets pages connect to the daemon.

Nothing here needs the site's models while it is imported, so any module of a site may have
``from notifyd.django import notify`` at its top.
"""

from notifyd.django.bus import PublishError, PublishUnknown
from notifyd.django.publisher import (
    anotify,
    anotify_disconnect,
    anotify_recheck,
    notify,
    notify_disconnect,
    notify_recheck,
)
from notifyd.django.tracing import request_traceparent

__all__ = [
    "PublishError",
    "PublishUnknown",
    "anotify",
    "anotify_disconnect",
    "anotify_recheck",
    "notify",
    "notify_disconnect",
    "notify_recheck",
    "request_traceparent",
]
