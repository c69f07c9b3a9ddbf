"""Publishes what people do in the admin to the bus: the channel `events` in Redis.

The admin keeps a LogEntry of every addition, change and deletion; each becomes an event. Only
the action "delete selected" escapes: it writes its entries in bulk, which sends no signal.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models.signals import post_save
from django_redis import get_redis_connection

CHANNEL = "events"


def connect() -> None:
    """Begin to publish."""
    post_save.connect(on_log_entry, sender=LogEntry, dispatch_uid="articles.publisher")


def on_log_entry(instance: LogEntry, using: str, raw: bool = False, **_: object) -> None:  # noqa: FBT001, FBT002 - the signal's own arguments
    """Publish the entry once it is committed; a fixture that is loaded is no news."""
    event = None if raw else to_event(instance)
    if event is None:
        return

    def publish_it() -> None:
        publish(event)

    # Whoever hears of a change will look at it: it has to be there. And the change counts even
    # if nobody can be told, so a failure is logged by Django and goes no further.
    transaction.on_commit(publish_it, using=using, robust=True)


def to_event(entry: LogEntry) -> dict[str, Any] | None:
    """Return the event that tells of this entry, None if it is about no model's object."""
    if entry.content_type is None:
        return None
    return {
        "model": entry.content_type.name,
        "object": entry.object_repr,
        "message": entry.get_change_message(),
        "timestamp": entry.action_time.isoformat(),
        "user": str(entry.user),
        "content_type_id": entry.content_type_id,
        "object_id": entry.object_id,
    }


def publish(event: dict[str, Any]) -> None:
    """Send the event to whoever listens. Raises redis.RedisError if Redis can't be reached."""
    get_redis_connection("default").publish(CHANNEL, json.dumps(event))
