"""The admin's log: each of its entries becomes an event, with the keys that the guide gave it.

Django tells of an entry that is saved by itself. Those of the action "delete selected" are
created in bulk, of which no signal tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import QuerySet, prefetch_related_objects
from django.db.models.signals import post_save
from django.utils.module_loading import import_string

from notifyd.core.events import Rejected
from notifyd.django import publisher
from notifyd.django.bus import PublishError, Reason
from notifyd.django.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from notifyd.django.bus import Fields

DISPATCH_UID = "notifyd.log_entry"


def connect() -> None:
    """Begin to publish the admin's log, if the site has an admin. To do it again changes nothing.

    The models must be loaded.
    """
    if not apps.is_installed("django.contrib.admin"):
        return
    sender = apps.get_model("admin.LogEntry")
    post_save.connect(on_log_entry, sender=sender, dispatch_uid=DISPATCH_UID)
    # Not by another manager on the model: makemigrations would want a migration of the admin.
    import_string("django.contrib.admin.models.LogEntryManager").get_queryset = _get_queryset


def on_log_entry(
    instance: Any,
    created: bool,  # noqa: FBT001 - the signal's own argument
    using: str,
    raw: bool = False,  # noqa: FBT001, FBT002 - the same
    **_: object,
) -> None:
    """Publish an entry that was added; a fixture that is loaded is no news."""
    if created and not raw:
        publish([instance], using)


def publish(entries: Sequence[Any], using: str) -> None:
    """Publish entries that were written to a database, but for those about no model's object."""
    if not load().enabled:
        return
    entries = [entry for entry in entries if entry.content_type_id is not None]
    # Of a hundred entries at a time all are of one person and one model: that's two queries.
    prefetch_related_objects(entries, "user", "content_type")
    publisher.publish(list(_encode(entries)), using=using)


def to_event(entry: Any) -> dict[str, Any]:
    """Return the event that tells of an entry."""
    key = entry.object_id
    return {
        "model": entry.content_type.name,
        "object": entry.object_repr,
        "message": entry.get_change_message(),
        "timestamp": entry.action_time.isoformat(),
        "user": str(entry.user),
        "content_type_id": entry.content_type_id,
        # The database will have it as text: of a kind that JSON doesn't know, so has the event.
        "object_id": key if key is None or isinstance(key, int) else str(key),
    }


def _encode(entries: Iterable[Any]) -> Iterable[Fields]:
    for entry in entries:
        try:
            yield publisher.encode(to_event(entry), None)
        except Rejected as error:
            # The change counts, even if it can't be told.
            publisher.failed(PublishError(Reason.REJECTED, str(error)))


class _Entries(QuerySet[Any, Any]):
    """Entries of the admin's log, some of which may be created in bulk."""

    def bulk_create(self, *arguments: Any, **options: Any) -> list[Any]:
        created = super().bulk_create(*arguments, **options)
        # A migration has a model of its own of the same name, without the methods of this one.
        if self.model is apps.get_model("admin.LogEntry"):
            publish(created, self.db)
        return created


def _get_queryset(manager: Any) -> QuerySet[Any, Any]:
    return _Entries(manager.model, using=manager._db, hints=manager._hints)  # noqa: SLF001 - as Django documents it
