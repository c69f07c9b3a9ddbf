"""Users of many kinds; a run uses one of them."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class Bare(AbstractBaseUser):
    """A user with a UUID for a key and an email address for a name, and nothing else."""

    id: Any = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email: Any = models.EmailField(unique=True)
    is_active: Any = models.BooleanField(default=True)

    objects: Any = BaseUserManager()

    USERNAME_FIELD = "email"

    class Meta:
        """No table of its own."""

        abstract = True


class Member(Bare):
    """A user without permissions."""


class Reader(Bare):
    """A user with an idea of permissions that is not Django's."""

    def has_perm(self, perm: str, _obj: Any = None) -> bool:
        """Tell whether the user has a permission."""
        return perm in {"members.view_reader", "members.add_reader"}


class Chief(Bare, PermissionsMixin):  # type: ignore[misc] # of two Meta Django takes the first
    """A superuser whom the site denies something all the same."""

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Tell whether the user has a permission."""
        return perm in {"members.view_chief", "members.add_chief"} and super().has_perm(perm, obj)


class Staff(Bare, PermissionsMixin):  # type: ignore[misc] # of two Meta Django takes the first
    """A user with Django's permissions."""


class Club(models.Model):
    """A group that is not Django's."""

    def __str__(self) -> str:
        return f"club {self.pk}"


class Clubber(Bare, PermissionsMixin):  # type: ignore[misc] # of two Meta Django takes the first
    """A user whose groups are clubs, which have no permissions."""

    groups: Any = models.ManyToManyField(Club)
