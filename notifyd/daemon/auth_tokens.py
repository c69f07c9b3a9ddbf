"""Who sent a token, by the site's own django-sesame backend; and users by their primary keys.

Everything here may block, and runs in threads. What needs the site's models is looked up by name
once the project is set up, since none can be imported before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError, router, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from notifyd.core.login import Refused, Result
from notifyd.daemon.auth_project import SCOPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# A max_age in seconds that no token has reached: their timestamps are 32 bits wide.
_EVER: Final = 1 << 40

# What is raised for a key that no database can store, by one library or another.
_IMPOSSIBLE: Final = (DataError, OverflowError, ValueError)


class Claim(NamedTuple):
    """A token as it came; a `bare` one had no hello around it."""

    token: str
    bare: bool


class Found(NamedTuple):
    """A user whose token is good, and the last login that the token was good for."""

    user: Any
    last_login: Any


class Tokens:
    """What the site's backend makes of tokens.

    With `unscoped`, a bare one may be unscoped as in the plain guide. `bulk` tells whether many
    users can be found at once: only if the backend does everything as sesame's does.
    """

    def __init__(self, *, unscoped: bool) -> None:
        self._unscoped = unscoped
        self._one_time = bool(getattr(settings, "SESAME_ONE_TIME", False))
        backends = [import_string(path) for path in settings.AUTHENTICATION_BACKENDS]
        mixin = import_string("sesame.backends.SesameBackendMixin")
        # The setting may name functions, too, that make a backend.
        classes = [each for each in backends if isinstance(each, type)]
        configured: Any = next(each for each in classes if issubclass(each, mixin))
        self._backend = _lenient(configured)
        self._named_by = import_string("sesame.settings.PRIMARY_KEY_FIELD")
        self._field = self._field_of(configured.get_user)
        self.bulk = self._field is not None and configured.authenticate is mixin.authenticate

    def _field_of(self, get_user: Any) -> str | None:
        """Return the field by which a backend finds its users, None if it has its own way."""
        if get_user is import_string("sesame.backends.ModelBackend").get_user:
            return str(self._named_by)
        stock = import_string("django.contrib.auth.backends.ModelBackend")
        return "pk" if get_user is stock.get_user else None

    def begin(self) -> Any:
        """Return a backend for one job, which remembers the users that it has found."""
        return self._backend()

    def gather(self, backend: Any, claims: Iterable[Claim]) -> None:
        """Have the backend know all users whom the tokens name, by one query.

        Whom it doesn't know afterwards it looks for by itself.
        """
        if self.bulk and self._field is not None:
            keys = {key for claim in claims for key in _named(claim.token)}
            backend.users.update(_fetch(self._field, [*keys]))

    def find(self, backend: Any, claim: Claim) -> Found:
        """Return the user whom a token names. Raises Refused."""
        scopes = (SCOPE, "") if claim.bare and self._unscoped else (SCOPE,)
        user = _find(backend, claim.token, scopes)
        if user is None:
            late = _find(backend, claim.token, scopes, max_age=_EVER)
            if late is None:
                raise Refused(Result.INVALID, "not a valid token, or already used")
            raise Refused(Result.EXPIRED, f"the token of user {late.pk} has expired")
        if not backend.admits(user):
            raise Refused(Result.INACTIVE, f"user {user.pk} is not active")
        return Found(user, getattr(user, "last_login", None))

    def use_up(self, found: Found) -> None:
        """Invalidate a token that is good once. Raises Refused if somebody was faster."""
        if self._one_time:
            _use_up(found)

    def keys(self, users: Iterable[str]) -> Mapping[str, Any]:
        """Return the primary keys that these texts stand for; of others there can be no user."""
        field = get_user_model()._meta.pk  # noqa: SLF001 - documented all the same
        keys = {}
        for text in users:
            with suppress(ValidationError, *_IMPOSSIBLE):
                key = field.to_python(text)
                # Not what merely reads like it: keys are compared as text everywhere else.
                if str(key) == text:
                    keys[text] = key
        return keys

    def fetch(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the user with each of these primary keys, or None, by one query.

        Whoever is missing has to be looked for by the backend.
        """
        return {} if self._field is None else _fetch("pk", [*keys])

    def user(self, backend: Any, key: Any, known: Mapping[Any, Any]) -> Any:
        """Return the user with a primary key, None if there is none or the user is not active."""
        user = known[key] if key in known else self._user(backend, key)
        return user if user is not None and backend.admits(user) else None

    def _user(self, backend: Any, key: Any) -> Any:
        with suppress(PermissionDenied, *_IMPOSSIBLE):
            if self._named_by != "pk":
                users = get_user_model()._default_manager.filter(pk=key)  # noqa: SLF001 - documented all the same
                key = users.values_list(self._named_by, flat=True).first()
            return None if key is None else backend.get_user(key)
        return None


def _named(token: str) -> list[Any]:
    """Return the key of the user whom a token claims to be of; nothing is verified or read."""
    keys: list[Any] = []
    parse = import_string("sesame.tokens.parse_token")
    # However wrong a token is, it shows when the token is looked at by itself.
    with suppress(Exception):
        try:
            parse(token, keys.append, SCOPE, _EVER)
        except NotImplementedError:
            # Version 1 knows neither scopes nor another age.
            parse(token, keys.append)
    return keys


def _fetch(field: str, keys: Sequence[Any]) -> dict[Any, Any]:
    """Return the user with each of these keys, or None, by one query.

    Of those keys that are missing nothing is known.
    """
    if not keys:
        return {}
    try:
        rows = [*get_user_model()._default_manager.filter(**{f"{field}__in": keys})]  # noqa: SLF001 - documented all the same
    except _IMPOSSIBLE:
        # One of them can't be stored, which must spoil nobody else's login: find it by halves.
        if len(keys) == 1:
            return {keys[0]: None}
        half = len(keys) // 2
        return _fetch(field, keys[:half]) | _fetch(field, keys[half:])
    found = {getattr(user, field): user for user in rows}
    if len(found.keys() & {*keys}) < len(rows):
        # The database compares keys in another way than Python does, capitals for example.
        return {}
    return {key: found.get(key) for key in keys}


def _find(backend: Any, token: str, scopes: Iterable[str], **age: int) -> Any:
    """Return the user whom the token names in one of the scopes, None if there is none."""
    for scope in scopes:
        # Tokens of version 1 know neither scopes nor another age. A forged token may carry a key
        # that no database can store. And a backend may refuse by raising PermissionDenied.
        with suppress(NotImplementedError, PermissionDenied, *_IMPOSSIBLE):
            user = backend.authenticate(None, sesame=token, scope=scope, **age)
            if user is not None:
                return user
    return None


def _use_up(found: Found) -> None:
    """Invalidate a one-time token as `sesame.utils.get_user` does, by saving last_login.

    That function itself would pass the token to the receivers of user_login_failed.
    """
    user = found.user
    users = type(user)
    alias = router.db_for_write(users, instance=user)
    now = timezone.now()
    with transaction.atomic(using=alias):
        # Of two uses at the same time only one finds what both have read; those of the same job
        # share the user, who may have changed since. Then save, besides, because the site's
        # signals and methods may want to know.
        manager = users._default_manager.using(alias)  # noqa: SLF001 - documented all the same
        unused = manager.filter(pk=user.pk, last_login=found.last_login)
        if not unused.update(last_login=now):
            raise Refused(Result.INVALID, f"the token of user {user.pk} was used meanwhile")
        user.last_login = now
        user.save(using=alias, update_fields=["last_login"])


def _lenient(configured: Any) -> Any:
    """Return the site's backend as a class that finds inactive users, too, and each only once.

    An instance serves one job, whose tokens are tried in more than one way: the first query
    answers for all, so a forged token costs no more than any other.
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
