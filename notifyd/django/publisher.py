"""Publishing: from what a site has to say to an entry of the bus, once it is committed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from notifyd.core.events import Rejected, Rejection, encode_event, encode_rule, parse_entry
from notifyd.django.audience import NOBODY, Match, to_rule
from notifyd.django.bus import BusError, PublishError, PublishUnknown, Reason, connect, stream_key
from notifyd.django.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.events import Rule
    from notifyd.django.bus import Fields

__all__ = ["PublishError", "PublishUnknown", "anotify", "notify", "stats", "stream_key"]

log = logging.getLogger("notifyd")


class Stats:
    """What became of this process's events: how many were published, and how many failed why."""

    def __init__(self) -> None:
        self.published = 0
        self.failures: dict[str, int] = dict.fromkeys(map(str, Reason), 0)
        self._lock = threading.Lock()

    def succeeded(self, count: int) -> None:
        """Count events that were published."""
        with self._lock:
            self.published += count

    def failed(self, reason: Reason, count: int) -> None:
        """Count events that were not, or perhaps not."""
        with self._lock:
            self.failures[reason] += count


stats: Final = Stats()
"""The counts of this process, for whatever the site is monitored with."""


class _Encoder(DjangoJSONEncoder):
    """Django's rules for dates, UUIDs, decimals and lazy texts; and any mapping is an object."""

    def default(self, o: Any) -> Any:
        return dict(o) if isinstance(o, Mapping) else super().default(o)


_ENCODER: Final = _Encoder()


def notify(
    event: Mapping[str, Any],
    *,
    users: Iterable[Any] | None = None,
    groups: Iterable[Any] | None = None,
    permissions: Iterable[Any] | None = None,
    content_types: Iterable[Any] | None = None,
    everyone: bool = False,
    match: Match | None = None,
    required: bool = False,
    using: str | None = None,
) -> None:
    """Publish an event once the transaction is committed, or at once where there is none.

    `event` is what the pages get: a mapping that becomes a JSON object of at most 64 KiB, dates
    and the like by the rules of Django's DjangoJSONEncoder. Its keys `id` and `notifyd` are
    reserved.

    Who gets it: whoever is, has, or may see any of what one keyword lists, which are objects or
    keys of the database, for permissions texts like "app.codename", for content types models too.
    An empty list is nobody. With several keywords `match` says whether "any" of them is enough
    or "all" must be met. With none the event's own `content_type_id` decides: whoever may view or
    change such objects.

    `using` is the database whose transaction it is, by default the default one.

    If Redis doesn't take the event, that is logged and counted, and the request goes on. With
    `required` the commit is followed by PublishError if the event was not written, and by
    PublishUnknown if it may have been. The data is saved all the same, and further callbacks of
    the commit are not called. Connecting may take half a second and the answer another; when it was
    in vain, nobody tries again for some seconds.

    Raises TypeError and ValueError, at once, for an event or an audience that can't be published.
    """
    rule = to_rule(
        users=users,
        groups=groups,
        permissions=permissions,
        content_types=content_types,
        everyone=everyone,
        match=match,
    )
    fields = encode(event, rule)
    if rule != NOBODY:
        publish([fields], using=using, required=required)


anotify = sync_to_async(notify)
"""The same for async code: ``await anotify(...)``. It works in the thread of the async ORM."""


def encode(event: Mapping[str, Any], rule: Rule | None) -> Fields:
    """Return the fields of the entry, judged as the daemon will judge them.

    Raises Rejected, which is a ValueError, and TypeError for what JSON has no form for.
    """
    try:
        plain = json.loads(_ENCODER.encode(event))
    except RecursionError:
        raise Rejected(Rejection.NOT_JSON, "the event is nested too deeply") from None
    fields = {b"event": encode_event(plain)}
    if rule is None:
        parse_entry(fields, None)
    elif rule != NOBODY:
        fields[b"to"] = encode_rule(rule)
    return fields


def publish(entries: Sequence[Fields], *, using: str | None, required: bool = False) -> None:
    """Write entries to the bus once the transaction is committed, unless that is switched off."""
    settings = load()
    if not entries or not settings.enabled:
        return

    def write() -> None:
        try:
            try:
                connect(settings).write(entries)
            except ImproperlyConfigured as error:
                raise PublishError(Reason.ADDRESS, str(error), len(entries)) from None
        except BusError as error:
            stats.succeeded(len(entries) - error.count)
            failed(error)
            if required:
                raise
        else:
            stats.succeeded(len(entries))

    # An exception would keep Django from calling the callbacks of others.
    transaction.on_commit(write, using=using, robust=not required)


def failed(error: BusError) -> None:
    """Log and count events that were not published."""
    stats.failed(error.reason, error.count)
    certainty = "may not have been" if isinstance(error, PublishUnknown) else "not"
    log.error("%d event(s) %s published: %s", error.count, certainty, error)
