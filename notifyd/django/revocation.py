"""What people may see, and who is logged in: each change is told to the daemons, on its commit.

Django tells of what is saved, deleted, added and removed. It doesn't tell of `QuerySet.update()`,
of rows that are created in bulk, or of what others do to the database; nor do we hear of the
permissions that `migrate` creates, which nobody has yet. For these there is `notify_recheck`, and
the daemons read everybody's permissions anew from time to time.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.db.transaction import TransactionManagementError

from notifyd.django import commits
from notifyd.django.controls import Controls
from notifyd.django.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model, QuerySet

    Fields = frozenset[str] | None

log = logging.getLogger("notifyd")

DISPATCH_UID: Final = "notifyd.revocation"

_MARK: Final = "_notifyd_reauthenticate"
"""The attribute of a user who is being saved with another password."""


def connect() -> None:
    """Begin to tell of changes. To do it again changes nothing. The models must be loaded."""
    try:
        users = get_user_model()
    except ImproperlyConfigured:
        # Where there are no users, nobody connects.
        return
    for model in _forms(users):
        pre_save.connect(before_user, sender=model, dispatch_uid=DISPATCH_UID)
        post_save.connect(on_user, sender=model, dispatch_uid=DISPATCH_UID)
        post_delete.connect(on_user, sender=model, dispatch_uid=DISPATCH_UID)
    user_logged_out.connect(on_log_out, dispatch_uid=DISPATCH_UID)
    if not apps.is_installed("django.contrib.auth"):
        return
    groups, permissions = apps.get_model("auth.Group"), apps.get_model("auth.Permission")
    for model in _forms(groups):
        post_delete.connect(on_group_deleted, sender=model, dispatch_uid=DISPATCH_UID)
    for kind in (permissions, apps.get_model("contenttypes.ContentType")):
        for model in _forms(kind):
            post_save.connect(on_permission, sender=model, dispatch_uid=DISPATCH_UID)
            post_delete.connect(on_permission, sender=model, dispatch_uid=DISPATCH_UID)
    for owner in (users, groups):
        for field in _options(owner).many_to_many:
            if issubclass(field.related_model, (groups, permissions)):
                _connect_relation(owner, field)


def _forms(base: type[Model]) -> Iterator[type[Model]]:
    # Signals tell of a proxy, and of a model that inherits, by its own name.
    return (model for model in apps.get_models() if issubclass(model, base))


def _connect_relation(owner: type[Model], field: Any) -> None:
    through = field.remote_field.through
    changed = functools.partial(on_relation, owner=owner, field=field)
    m2m_changed.connect(changed, sender=through, weak=False, dispatch_uid=DISPATCH_UID)
    if not _options(through).auto_created:
        # The rows of a model of the site's own can be saved and deleted one by one.
        column = _options(through).get_field(field.m2m_field_name()).attname
        row_changed = functools.partial(on_row, owner=owner, column=column)
        for signal in (post_save, post_delete):
            signal.connect(row_changed, sender=through, weak=False, dispatch_uid=DISPATCH_UID)


def before_user(
    instance: Any,
    using: str,
    update_fields: Fields = None,
    **_: object,
) -> None:
    """Look, before a user is saved, whether that ends their sessions."""
    vars(instance).pop(_MARK, None)
    if (
        _matters(update_fields)
        and load().enabled
        and _ends_sessions(instance, using, update_fields)
    ):
        vars(instance)[_MARK] = True


def on_user(instance: Any, using: str, update_fields: Fields = None, **_: object) -> None:
    """Tell of a user who was saved or deleted."""
    if not _matters(update_fields):
        return
    key = _key(instance, get_user_model())
    controls = Controls(users={key})
    if vars(instance).pop(_MARK, False):
        controls.reauthenticate.add(key)
    _publish(controls, using)


def _matters(update_fields: Fields) -> bool:
    # Every log-in saves its time. Any other field may be what a backend decides by.
    return update_fields is None or not update_fields <= {"last_login"}


def _ends_sessions(user: Any, using: str, update_fields: Fields) -> bool:
    """Tell whether the session auth hash, which tickets depend on as well, is about to change.

    One query when a user is saved is less than to remember something of every user that is loaded,
    for each request in its turn. And it finds the change, too, when what was loaded is out of date.
    """
    users: Any = get_user_model()
    make_hash = getattr(users, "get_session_auth_hash", None)
    if make_hash is None or user.pk is None:
        return False
    stored = _rows(users, using).filter(pk=_key(user, users))
    if make_hash is not AbstractBaseUser.get_session_auth_hash:
        # It may depend on anything.
        before = stored.first()
        return before is not None and make_hash(before) != make_hash(user)
    if update_fields is not None and "password" not in update_fields:
        return False
    return any(password != user.password for password in stored.values_list("password", flat=True))


def on_log_out(user: Any, request: Any = None, **_: object) -> None:
    """Tell of a log-out: whose session has ended needs another to stay connected."""
    if not isinstance(user, get_user_model()):
        # The session was nobody's.
        return
    # Django deletes the session next. Where a transaction has it still there until the commit, a
    # page that is disconnected before would just get a new token.
    sessions = getattr(getattr(request, "session", None), "model", None)
    using = router.db_for_write(sessions or type(user))
    _publish(Controls(reauthenticate={_key(user, get_user_model())}), using)


def on_group_deleted(instance: Any, using: str, **_: object) -> None:
    """Tell of a group that is no more: the daemons know who was in it."""
    _publish(Controls(groups={_key(instance, apps.get_model("auth.Group"))}), using)


def on_permission(using: str, **_: object) -> None:
    """Tell of a permission, or of a content type, that was saved or deleted: it is everybody's."""
    _publish(Controls(everyone=True), using)


def on_relation(
    instance: Any,
    action: str,
    reverse: bool,  # noqa: FBT001 - the signal's own argument
    pk_set: set[Any] | None,
    using: str,
    *,
    owner: type[Model],
    field: Any,
    **_: object,
) -> None:
    """Tell of what was added to, or removed from, the groups or permissions of its owners."""
    if action not in {"post_add", "post_remove", "pre_clear"}:
        return
    if not reverse:
        controls = _of(owner, [_key(instance, owner)] if pk_set != set() else [])
    elif pk_set is not None:
        controls = _of(owner, pk_set)
    elif isinstance(instance, apps.get_model("auth.Group")):
        controls = Controls(groups={_key(instance, apps.get_model("auth.Group"))})
    else:
        # Once it is cleared, nobody knows any more. It is a transaction from here on.
        having = _rows(owner, using).filter(**{field.name: instance.pk})
        controls = _of(owner, having.values_list("pk", flat=True))
    _publish(controls, using)


def on_row(instance: Any, using: str, *, owner: type[Model], column: str, **_: object) -> None:
    """Tell of a row that gives its owner a group or a permission."""
    _publish(_of(owner, [getattr(instance, column)]), using)


def _of(owner: type[Model], keys: Any) -> Controls:
    texts = set(map(str, keys))
    return Controls(users=texts) if owner is get_user_model() else Controls(groups=texts)


def _key(instance: Any, model: type[Model]) -> str:
    # A model that inherits may have a key of its own.
    return str(getattr(instance, _options(model).pk.attname))


def _options(model: type[Model]) -> Any:
    return model._meta  # noqa: SLF001 - as Django documents it


def _rows(model: type[Model], using: str) -> QuerySet[Any]:
    # Another manager may hide some of them.
    return model._base_manager.using(using)  # noqa: SLF001 - as Django documents it


def _publish(controls: Controls, using: str) -> None:
    try:
        commits.publish(controls, using=using)
    except TransactionManagementError:
        log.error("control not published: without autocommit there is no telling of the commit")  # noqa: TRY400 - it is the site's choice
