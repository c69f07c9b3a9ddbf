"""What the daemon has to read in the site's database, and what to do where it may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connections, router
from django.db.models import F
from django.utils.module_loading import import_string

from notifyd.core.remedies import denied, grant
from notifyd.daemon.auth_access import sqlite_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

# SQLite's own words, for a folder that can't be entered, and for one that can't be written to.
_CLOSED: Final = re.compile(
    r"unable to open database file|attempt to write a readonly database|disk I/O error"
)

_ACCOUNTS: Final = "notifyd_accounts"
# What Django finds in a database for each type of key.
_KEYS: Final = {
    "bigint": {"BigAutoField", "BigIntegerField"},
    "integer": {"AutoField", "IntegerField"},
    "uuid": {"UUIDField"},
    "text": {"CharField", "TextField"},
}


def permission_fault() -> str | None:
    """Return what is missing or wrong and what to do about it, None if all is as it should be.

    That are rights, and the type of a table's key that does not have the one it was said to have.

    Raises DatabaseError where a table can't be read for another reason.
    """
    missing: list[str] = []
    role = ""
    for model in _models():
        try:
            _read(model)
        except DatabaseError as error:
            found = denied(str(error))
            if found is None:
                raise
            missing.append(model._meta.db_table)  # noqa: SLF001 - documented all the same
            role = found[1]
    if not missing:
        return _key_fault()
    return f"the role may not read {', '.join(missing)}; {_grant(missing, role)}"


def remedy(error: Exception) -> str:
    """Return what to do about an error of the database, empty if that is not known."""
    if not isinstance(error, DatabaseError):
        return ""
    message = str(error)
    if _CLOSED.search(message):
        name = _database()["NAME"]
        return (sqlite_fault(str(name)) or "") if _database_is_a_file() else ""
    found = denied(message)
    return _grant([found[0]], found[1]) if found is not None else ""


def _models() -> Iterator[Any]:
    """Yield what is read of every site: models, and the tables that relate them."""
    users = get_user_model()
    yield users
    if issubclass(users, import_string("django.contrib.auth.models.PermissionsMixin")):
        group = apps.get_model("auth.Group")
        yield from (group, apps.get_model("auth.Permission"), group.permissions.through)
        yield apps.get_model("contenttypes.ContentType")
        yield from (getattr(users, name).through for name in ("groups", "user_permissions"))


def _read(model: Any) -> None:
    rows = model._base_manager.using(router.db_for_read(model))  # noqa: SLF001 - documented all the same
    # All columns of a row: rights may be granted on some only.
    list(rows.order_by()[:1])
    if _saves_logins() and model is get_user_model():
        # No row is like that, but the right to write is asked for.
        rows.filter(last_login__gt=F("last_login")).update(last_login=None)


def _grant(tables: list[str], role: str) -> str:
    users = get_user_model()._meta.db_table  # noqa: SLF001 - documented all the same
    whom = role or str(_database()["USER"]) or "notifyd"
    return grant(tables, whom, writing=users if _saves_logins() else "")


def _key_fault() -> str | None:
    """Return why no token could be read: they are packed by the type of the user's key.

    Only PostgreSQL's types tell for sure.
    """
    meta = get_user_model()._meta  # noqa: SLF001 - documented all the same
    connection = connections[router.db_for_read(get_user_model())]
    if meta.app_label != _ACCOUNTS or connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, meta.db_table)
    [column] = [each for each in columns if each.name == meta.pk.column]
    found = connection.introspection.get_field_type(column.type_code, column)
    said = settings.NOTIFYD_ACCOUNTS["pk"]
    if found in _KEYS[said]:
        return None
    right = next((pk for pk, fields in _KEYS.items() if found in fields), "none that is supported")
    return f"the key of {meta.db_table} is not of type {said}: set [django] user_pk to {right}"


def _saves_logins() -> bool:
    """Tell whether tokens are good once: then their use is noted with the user."""
    return bool(getattr(settings, "SESAME_ONE_TIME", False))


def _database() -> dict[str, Any]:
    found: dict[str, Any] = connections.settings[router.db_for_write(get_user_model())]
    return found


def _database_is_a_file() -> bool:
    return bool(_database()["ENGINE"].endswith("sqlite3"))
