"""Publishing: from what a site has to say to an entry of the bus, once it is committed."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import Model

from notifyd.core.events import Rejected, Rejection, encode_event, encode_rule, parse_entry
from notifyd.core.traceparent import parse_traceparent
from notifyd.django import commits, tracing
from notifyd.django.audience import NOBODY, Match, group_key, listed, to_rule, user_key
from notifyd.django.bus import BusError, PublishError, PublishUnknown, Reason, connect, stream_key
from notifyd.django.controls import Controls
from notifyd.django.outbox import outbox
from notifyd.django.settings import load
from notifyd.django.stats import Stats, stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from notifyd.core.events import Rule
    from notifyd.django.bus import Fields

__all__ = ["PublishError", "PublishUnknown", "Stats", "anotify", "notify", "stats", "stream_key"]

log = logging.getLogger("notifyd")


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
    traceparent: str | None = None,
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

    `traceparent` is the trace that the event belongs to, as the header of that name has it (W3C
    Recommendation "Trace Context"). Without it that is OpenTelemetry's current span, if there is
    one. A request's own header is a stranger's: take it by `request_traceparent`.

    If Redis doesn't take the event, that is logged and counted, and the request goes on. With
    `required` the commit is followed by PublishError if the event was not written, and by
    PublishUnknown if it may have been. The data is saved all the same, and further callbacks of
    the commit are not called. Connecting may take half a second and the answer another; when it was
    in vain, nobody tries again for some seconds.

    Raises TypeError and ValueError, at once, for an event, an audience or a trace that can't be
    published.
    """
    rule = to_rule(
        users=users,
        groups=groups,
        permissions=permissions,
        content_types=content_types,
        everyone=everyone,
        match=match,
    )
    fields = {**encode(event, rule), **_trace(traceparent)}
    if rule != NOBODY:
        publish([fields], using=using, required=required)


anotify = sync_to_async(notify)
"""The same for async code: ``await anotify(...)``. It works in the thread of the async ORM."""


def notify_disconnect(users: Any, *, required: bool = False, using: str | None = None) -> None:
    """Have the daemons end all connections of a user, or of several, once the transaction commits.

    `users` are users or their keys, one or a list. Their pages don't connect again until they are
    loaded anew: to keep somebody out for good, log them out and deactivate them.

    `using` and `required` are as with `notify`, but what Redis doesn't take is repeated until it
    does: PublishError says that it is not written yet.

    Raises TypeError and ValueError, at once, for what is no user.
    """
    is_one = isinstance(users, (Model, str, int, uuid.UUID)) or not isinstance(users, Iterable)
    keys = _keys("users", [users] if is_one else users, user_key)
    commits.publish(Controls(disconnect=keys), using=using, required=required)


anotify_disconnect = sync_to_async(notify_disconnect)
"""The same for async code: ``await anotify_disconnect(...)``."""


def notify_recheck(
    *,
    users: Iterable[Any] | None = None,
    groups: Iterable[Any] | None = None,
    everyone: bool = False,
    required: bool = False,
    using: str | None = None,
) -> None:
    """Have the daemons read anew what users may see, once the transaction is committed.

    That is for changes of which Django tells nobody, by `QuerySet.update()` say, or by SQL, and for
    permissions that come from elsewhere. Without it they count within five minutes.

    `users`, members of `groups`, both objects or keys, or `everyone`. `using` and `required` are as
    with `notify_disconnect`.

    Raises TypeError and ValueError, at once, for what can't be understood entirely.
    """
    if not isinstance(everyone, bool):
        raise TypeError("everyone must be True or False")
    if users is None and groups is None and not everyone:
        raise ValueError("say whose permissions have changed: users, groups, or everyone")
    controls = Controls(
        users=set() if users is None else _keys("users", users, user_key),
        groups=set() if groups is None else _keys("groups", groups, group_key),
        everyone=everyone,
    )
    commits.publish(controls, using=using, required=required)


anotify_recheck = sync_to_async(notify_recheck)
"""The same for async code: ``await anotify_recheck(...)``."""


def _keys(keyword: str, given: Any, to_key: Callable[[Any], str]) -> set[str]:
    keys = set(map(to_key, listed(keyword, given)))
    for key in keys:
        # A lone surrogate raises ValueError: no key of a database has one.
        key.encode()
    return keys


def _trace(traceparent: str | None) -> Fields:
    if traceparent is None:
        return {}
    if not isinstance(traceparent, str):
        raise TypeError("traceparent must be a text or None")
    return {tracing.FIELD: str(parse_traceparent(traceparent)).encode()}


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
    """Write entries to the bus once the transaction is committed, unless that is switched off.

    They fail while a control waits to be written: they would overtake it. What the caller is doing
    now is what the writing belongs to in traces, and not what comes to be done on the commit.
    """
    settings = load()
    if not entries or not settings.enabled:
        return
    parent = tracing.parent(entries)

    def send(entries: Sequence[Fields]) -> Sequence[str]:
        if outbox.withholds():
            text = "a control that was published before is not written yet"
            raise PublishError(Reason.WITHHELD, text, len(entries))
        try:
            return connect(settings).write(entries)
        except ImproperlyConfigured as error:
            raise PublishError(Reason.ADDRESS, str(error), len(entries)) from None

    def write() -> None:
        try:
            tracing.write(send, entries, stream=stream_key(settings.prefix), within=parent)
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
