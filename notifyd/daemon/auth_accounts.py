"""The site's users and what they may see, by django-sesame's tokens and Django's permissions.

Everything here may block, and runs in threads. What needs the site's models is looked up by name
once the project is set up, since none can be imported before.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import DataError, Error, router, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from notifyd.core.audience import Audience
from notifyd.core.login import Login, Refused, Result
from notifyd.daemon.auth_database import describe, refresh_connections
from notifyd.daemon.auth_project import SCOPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from notifyd.core.audience import Vocabulary

log = structlog.stdlib.get_logger()

# A max_age in seconds that no token has reached: their timestamps are 32 bits wide.
_EVER: Final = 1 << 40

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a thread brings back, refusals included: nobody may be left to take an exception.

    `database` tells whether the database answered; None: it was not asked.
    """

    outcome: Login | Refused
    database: bool | None


class _Tables(NamedTuple):
    """What the site knows of: the content type that each word shows, and all permissions.

    `known` are the words that were looked for when the content types were read, or before.
    """

    content_types: Mapping[str, str]
    permissions: AbstractSet[str]
    known: AbstractSet[str]
    read: float


class Accounts:
    """Answers for tokens. With `unscoped`, a bare one may be unscoped as in the plain guide."""

    def __init__(self, vocabulary: Vocabulary, *, unscoped: bool) -> None:
        self._vocabulary = vocabulary
        self._unscoped = unscoped
        self._one_time = bool(getattr(settings, "SESAME_ONE_TIME", False))
        self._tables: _Tables | None = None
        backends = [import_string(path) for path in settings.AUTHENTICATION_BACKENDS]
        sesame = import_string("sesame.backends.SesameBackendMixin")
        # The setting may name functions, too, that make a backend.
        classes = [each for each in backends if isinstance(each, type)]
        self._backend = _lenient(next(each for each in classes if issubclass(each, sesame)))
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

    def answer(self, token: str, *, bare: bool) -> Answer:
        """Return who sent the token, or why nobody did; never raises."""
        backend = None
        try:
            refresh_connections()
            try:
                backend = self._backend()
                login = self._login(backend, token, bare=bare)
            finally:
                refresh_connections()
        except Refused as refused:
            # Nonsense is refused without a query, and says nothing of the database.
            asked = backend is not None and backend.users
            return Answer(refused.with_traceback(None), True if asked else None)
        except Exception as error:  # noqa: BLE001 - code of the site was run, which may raise anything
            words = describe(error, token)
            log.error("auth.error", error=words)  # noqa: TRY400 - it would be the traceback of the site's own code, at every attempt
            failed = isinstance(error, Error)
            return Answer(Refused(Result.ERROR, type(error).__name__), False if failed else None)
        return Answer(login, database=True)

    def _login(self, backend: Any, token: str, *, bare: bool) -> Login:
        scopes = (SCOPE, "") if bare and self._unscoped else (SCOPE,)
        user = _find(backend, token, scopes)
        if user is None:
            late = _find(backend, token, scopes, max_age=_EVER)
            if late is None:
                raise Refused(Result.INVALID, "not a valid token, or already used")
            raise Refused(Result.EXPIRED, f"the token of user {late.pk} has expired")
        if not backend.admits(user):
            raise Refused(Result.INACTIVE, f"user {user.pk} is not active")
        login = Login(str(user.pk), self._audience(user))
        # Last: if anything above fails, the client may try its token again.
        if self._one_time:
            _use_up(user)
        return login

    def _audience(self, user: Any) -> Audience:
        groups = user.groups.values_list("pk", flat=True) if self._has_groups else ()
        if self._stock_users and user.is_active and user.is_superuser:
            return Audience.build(self._vocabulary, groups=groups, superuser=True)
        permissions, content_types = self._granted(user)
        return Audience.build(
            self._vocabulary, permissions=permissions, content_types=content_types, groups=groups
        )

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
        shown = tables.content_types.keys() & granted
        return granted, [tables.content_types[word] for word in shown]

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


def _find(backend: Any, token: str, scopes: Iterable[str], **age: int) -> Any:
    """Return the user whom the token names in one of the scopes, None if there is none."""
    for scope in scopes:
        # Tokens of version 1 know neither scopes nor another age. A forged token may carry a key
        # that no database can store. And a backend may refuse by raising PermissionDenied.
        with suppress(NotImplementedError, DataError, OverflowError, ValueError, PermissionDenied):
            user = backend.authenticate(None, sesame=token, scope=scope, **age)
            if user is not None:
                return user
    return None


def _use_up(user: Any) -> None:
    """Invalidate a one-time token as `sesame.utils.get_user` does, by saving last_login.

    That function itself would pass the token to the receivers of user_login_failed.
    """
    users = type(user)
    alias = router.db_for_write(users, instance=user)
    now = timezone.now()
    with transaction.atomic(using=alias):
        # Of two uses at the same time only one finds what both have read. Then save, besides,
        # because the site's signals and methods may want to know.
        unused = users._default_manager.using(alias).filter(pk=user.pk, last_login=user.last_login)  # noqa: SLF001 - documented all the same
        if not unused.update(last_login=now):
            raise Refused(Result.INVALID, f"the token of user {user.pk} was used meanwhile")
        user.last_login = now
        user.save(using=alias, update_fields=["last_login"])


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


def _lenient(configured: Any) -> Any:
    """Return the site's backend as a class that finds inactive users, too, and each only once.

    An instance serves one token, which is tried in more than one way: the first query answers for
    all, so a forged token costs no more than any other.
    """

    class Lenient(configured):  # type: ignore[misc] # known only when the settings are
        def __init__(self) -> None:
            super().__init__()
            self.users: dict[Any, Any] = {}

        def get_user(self, user_id: Any) -> Any:
            if user_id not in self.users:
                self.users[user_id] = super().get_user(user_id)
            return self.users[user_id]

        def user_can_authenticate(self, _user: Any) -> bool:
            return True

        def admits(self, user: Any) -> bool:
            judge = getattr(super(), "user_can_authenticate", None)
            return judge is None or bool(judge(user))

    return Lenient
