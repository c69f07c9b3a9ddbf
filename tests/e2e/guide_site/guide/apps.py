"""The app that publishes as the guide does: to the channel `events`, as soon as it is saved."""

from __future__ import annotations

import json
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_save
from django_redis import get_redis_connection


class GuideConfig(AppConfig):
    """Publishes what is done in the admin."""

    name = "guide"

    def ready(self) -> None:
        """Begin to publish."""
        post_save.connect(on_log_entry, sender="admin.LogEntry")


def on_log_entry(instance: Any, **_: object) -> None:
    """Publish an entry of the admin's log with the guide's seven keys."""
    event = {
        "model": instance.content_type.name,
        "object": instance.object_repr,
        "message": instance.get_change_message(),
        "timestamp": instance.action_time.isoformat(),
        "user": str(instance.user),
        "content_type_id": instance.content_type_id,
        "object_id": instance.object_id,
    }
    get_redis_connection("default").publish("events", json.dumps(event))
