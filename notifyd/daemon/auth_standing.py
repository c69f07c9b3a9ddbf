"""What users may see by Django's permissions, and the digests of their log-ins.

Everything here may block, and runs in threads. What needs the site's models is looked up by name
once the project is set up, since none can be imported before.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import router
from django.utils.module_loading import import_string

from notifyd.core.audience import Audience
from notifyd.core.login import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from notifyd.core.audience import Vocabulary

# Below this number of users nothing is gained, and Django's own way is taken.
_MANY: Final = 2

# How long the tables of content types and permissions are believed, in seconds.
_FRESH: Final = 5.0

# Where a backend may have its own idea of what a user may do.
_PERMISSION_METHODS: Final = (
    "has_perm",
    "get_all_permissions",
    "get_user_permissions",
    "get_group_permissions",
    "_get_permissions",
    "_get_user_permissions",
    "_get_group_permissions",
)


class _Tables(NamedTuple):
    """What the site knows of: the content type that each word shows, and all permissions.

    `known` are the words that were looked for when the content types were read, or before.
    """

    content_types: Mapping[str, str]
    permissions: AbstractSet[str]
    known: AbstractSet[str]
    read: float

    def shown(self, granted: AbstractSet[str]) -> list[str]:
        """Return the content types that are visible with these permissions."""
        return [self.content_types[word] for word in self.content_types.keys() & granted]


class Standings:
    """Reads what users may see, one by one or many at once, with the same result."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tables: _Tables | None = None
        backends = [import_string(path) for path in settings.AUTHENTICATION_BACKENDS]
        # The setting may name functions, too, that make a backend.
        classes = [each for each in backends if isinstance(each, type)]
        users = get_user_model()
        mixin = import_string("django.contrib.auth.models.PermissionsMixin")
        self._has_groups = issubclass(users, mixin)
        self._has_permissions = hasattr(users, "has_perm")
        # A has_perm of the site's own may deny something even to a superuser.
        self._stock_users = self._has_groups and _agree(
            users, [mixin], ["has_perm", "get_all_permissions"]
        )
        stock = import_string("django.contrib.auth.backends.ModelBackend")
        self._stock = (
            self._stock_users
            and classes == backends
            and all(_agree(e, [stock, *stock.__bases__], _PERMISSION_METHODS) for e in classes)
        )
        self._bulk = self._stock and _django_grants(users, classes, stock)

    def of(self, user: Any) -> Standing:
        """Return what the database says of one user."""
        groups = user.groups.values_list("pk", flat=True) if self._has_groups else ()
        if self._stock_users and _superuser(user):
            audience = Audience.build(self._vocabulary, groups=groups, superuser=True)
        else:
            permissions, content_types = self._granted(user)
            audience = Audience.build(
                self._vocabulary,
                permissions=permissions,
                content_types=content_types,
                groups=groups,
            )
        return Standing(audience, _digests(user))

    def gather(self, users: Iterable[Any]) -> dict[Any, Standing]:
        """Return what the database says of many users by primary key, by four queries at most.

        Whoever is missing has to be read one by one.
        """
        people = {user.pk: user for user in users}
        if not self._bulk or len(people) < _MANY:
            return {}
        groups = _groups(people)
        plain = [pk for pk, user in people.items() if user.is_active and not user.is_superuser]
        granted = _permissions(plain, groups) if plain else {}
        tables = self._read_tables(frozenset().union(*granted.values())) if plain else None
        # Those with equal grants share one audience. There are far fewer of these than of users.
        audiences: dict[Any, Audience] = {}
        standings = {}
        for pk, user in people.items():
            words: frozenset[str] = granted.get(pk, frozenset())
            key = groups[pk], words, _superuser(user)
            if key not in audiences:
                audiences[key] = Audience.build(
                    self._vocabulary,
                    permissions=words,
                    content_types=tables.shown(words) if tables else (),
                    groups=groups[pk],
                    superuser=_superuser(user),
                )
            standings[pk] = Standing(audiences[key], _digests(user))
        return standings

    def _granted(self, user: Any) -> tuple[AbstractSet[str], list[str]]:
        """Return the permissions of a user, and the content types that these show."""
        if not self._has_permissions:
            return set(), []
        granted: AbstractSet[str] = set()
        if hasattr(user, "get_all_permissions"):
            granted = user.get_all_permissions()
        tables = self._read_tables(granted)
        if not self._stock:
            # Only the answer to has_perm counts, and it may go beyond what can be listed.
            candidates = {*granted, *tables.permissions, *tables.content_types}
            granted = {word for word in candidates if user.has_perm(word)}
        return granted, tables.shown(granted)

    def _read_tables(self, granted: AbstractSet[str]) -> _Tables:
        """Return what the site knows of, at most some seconds old.

        It is read again at once when a user has a permission that was never looked up, so that
        one for a new content type takes effect together with it.
        """
        tables, now = self._tables, time.monotonic()
        known: AbstractSet[str] = frozenset()
        if tables is not None and now - tables.read < _FRESH:
            if granted <= tables.known:
                return tables
            known = tables.known
        content_types = {
            f"{app}.{verb}_{model}": str(key)
            for key, app, model in apps.get_model("contenttypes.ContentType")
            .objects.order_by()
            .values_list("pk", "app_label", "model")
            for verb in ("view", "change")
        }
        permissions = frozenset() if self._stock else _all_permissions()
        known = {*known, *granted, *content_types}
        tables = self._tables = _Tables(content_types, permissions, known, now)
        return tables


def _superuser(user: Any) -> bool:
    return bool(user.is_active and user.is_superuser)


def _groups(people: Mapping[Any, Any]) -> dict[Any, frozenset[Any]]:
    """Return the groups of these users, each by primary key."""
    rows = _rows(people, "groups").values_list("pk", "groups")
    found: dict[Any, set[Any]] = {pk: set() for pk in people}
    for pk, group in rows:
        if group is not None:
            found[pk].add(group)
    return {pk: frozenset(groups) for pk, groups in found.items()}


def _permissions(
    people: Sequence[Any], groups: Mapping[Any, frozenset[Any]]
) -> dict[Any, frozenset[str]]:
    """Return the permissions of these users, who have these groups, by primary key.

    It is what Django's ModelBackend would say of each who is active and no superuser.
    """
    own = defaultdict(set)
    names = "user_permissions__content_type__app_label", "user_permissions__codename"
    for pk, app, codename in _rows(people, "user_permissions").values_list("pk", *names):
        if codename is not None:
            own[pk].add(f"{app}.{codename}")
    shared = defaultdict(set)
    if any(groups[pk] for pk in people):
        # Not by the keys of the groups: there may be more of these than a query takes.
        theirs = _rows(people, "groups").values("groups")
        names = "permissions__content_type__app_label", "permissions__codename"
        rows = apps.get_model("auth.Group").objects.filter(pk__in=theirs).order_by()
        for group, app, codename in rows.values_list("pk", *names):
            if codename is not None:
                shared[group].add(f"{app}.{codename}")
    return {pk: frozenset(own[pk]).union(*(shared[g] for g in groups[pk])) for pk in people}


def _rows(people: Iterable[Any], relation: str) -> Any:
    """Return the query of these users, in the database that has their related objects."""
    users = get_user_model()
    related: Any = users._meta.get_field(relation).related_model  # noqa: SLF001 - documented all the same
    everybody = users._base_manager.using(router.db_for_read(related))  # noqa: SLF001 - documented all the same
    return everybody.filter(pk__in=[*people]).order_by()


def _digests(user: Any) -> tuple[str, ...]:
    """Return digests of the hashes by which Django ends sessions, the present key's in front.

    They travel in tickets, the hashes themselves stay here. Those are keyed with the site's keys
    already; keyed again with the present one, no digest would outlive the change to another.
    """
    hashes = []
    if hasattr(user, "get_session_auth_hash"):
        hashes.append(user.get_session_auth_hash())
    if hasattr(user, "get_session_auth_fallback_hash"):
        hashes.extend(user.get_session_auth_fallback_hash())
    return tuple(
        hashlib.blake2b(each.encode(), digest_size=16, person=b"notifyd.digest").hexdigest()
        for each in hashes
    )


def _django_grants(users: Any, backends: Iterable[type], stock: type) -> bool:
    """Tell whether users have what Django's own tables say, no more and no less."""
    groups, permissions = (
        users._meta.get_field(name).related_model  # noqa: SLF001 - documented all the same
        for name in ("groups", "user_permissions")
    )
    if (groups, permissions) != (
        apps.get_model("auth.Group"),
        apps.get_model("auth.Permission"),
    ):
        return False
    # At least one backend grants all of that, and the others have no word in it.
    everything, *nothing = (_methods(each) for each in (stock, *stock.__bases__, object))
    said = [_methods(each) for each in backends]
    return everything in said and all(each in (everything, *nothing) for each in said)


def _methods(kind: type) -> list[Any]:
    return [getattr(kind, name, None) for name in _PERMISSION_METHODS]


def _all_permissions() -> AbstractSet[str]:
    rows = (
        apps.get_model("auth.Permission")
        .objects.order_by()
        .values_list("content_type__app_label", "codename")
    )
    return {f"{app}.{codename}" for app, codename in rows}


def _agree(kind: type, stock: Iterable[type], names: Iterable[str]) -> bool:
    """Tell whether a class has those methods from a stock class, or not at all."""
    return all(
        not hasattr(kind, name) or any(getattr(kind, name) is getattr(s, name, None) for s in stock)
        for name in names
    )
