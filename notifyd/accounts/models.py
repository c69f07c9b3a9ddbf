"""The user model over a table of the site's: as much of it as telling who may see what takes.

The settings name the table (NOTIFYD_ACCOUNTS), so the class is made when they are known. Django
derives the tables of a user's groups and permissions from the table's name, and a column in them
from the model's, so both have to be the site's own.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models

_LONGEST: Final = 255

# By internal type of the field, which also decides the form of sesame's tokens.
_KEYS: Final[dict[str, Any]] = {
    "bigint": models.BigAutoField,
    "integer": models.AutoField,
    "uuid": models.UUIDField,
    "text": models.CharField,
}


class Account(AbstractBaseUser, PermissionsMixin):
    """What every user has, whatever the table is called."""

    is_active: Any = models.BooleanField(default=True)

    objects: BaseUserManager[Any] = BaseUserManager()

    USERNAME_FIELD = "username"

    class Meta:
        """The class is a pattern only."""

        abstract = True


def _make(model: str, table: str, pk: str, name: str) -> type[models.Model]:
    bounds = {"max_length": _LONGEST} if pk == "text" else {}
    fields = {
        "__module__": __name__,
        "Meta": type("Meta", (), {"db_table": table, "managed": False}),
        "id": _KEYS[pk](primary_key=True, **bounds),
        "username": models.CharField(max_length=_LONGEST, unique=True, db_column=name),
    }
    return type(model, (Account,), fields)


User = _make(**settings.NOTIFYD_ACCOUNTS)
