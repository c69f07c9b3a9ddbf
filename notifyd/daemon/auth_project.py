"""The Django project that the daemon stands beside: set up in this process, and looked over.

What needs the project's models is looked up by name, since none can be imported before.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import django
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import Error, connections, router
from django.utils.module_loading import import_string

from notifyd.core.faults import Fault
from notifyd.daemon.auth_access import closed_fault
from notifyd.daemon.auth_database import PrimaryRouter, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCOPE = "notifyd"
"""The scope of the tokens that are made for notifyd: they can't log in to the site."""


class SetupError(Fault):
    """The project can't be used as it is; the text says what to do."""


def setup(settings_module: str, path: str) -> None:
    """Set Django up with the project's settings, `path` in front of Python's search path.

    Without a `path`, modules are looked for in the working directory too, after all others.

    An empty `settings_module` means DJANGO_SETTINGS_MODULE. A process can do this once; later
    calls change nothing. Raises SetupError.
    """
    if apps.ready:
        return
    if path:
        if (fault := closed_fault(path)) is not None:
            raise SetupError(f"[django] path {path!r} can't be read: {fault}.")
        if not Path(path).is_dir():
            raise SetupError(f"There is no directory {path!r}: correct [django] path.")
        if path not in sys.path:
            sys.path.insert(0, path)
    elif not {"", str(Path.cwd())} & {*sys.path}:
        # Where one calls manage.py, one may call notifyd; last, so that it hides nothing.
        sys.path.append("")
    module = settings_module or os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if not module:
        raise SetupError(
            "No settings module is named: set [django] settings, or DJANGO_SETTINGS_MODULE,"
            ' to one such as "mysite.settings".'
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    try:
        importlib.import_module(module)
        # The daemon has logs of its own; the site's files may not even be writable for it.
        settings.LOGGING_CONFIG = None
        settings.DATABASE_ROUTERS = [PrimaryRouter(), *settings.DATABASE_ROUTERS]
        django.setup()
    except Exception as error:
        raise SetupError(_advice(module, error)) from error


def set_up_without_project(values: Mapping[str, Any]) -> None:
    """Set Django up with these settings; without a call nothing of the site's is imported.

    A process can do this once; later calls change nothing. Raises SetupError.
    """
    if apps.ready:
        return
    try:
        settings.configure(**values, LOGGING_CONFIG=None, DATABASE_ROUTERS=[PrimaryRouter()])
        django.setup()
    except ImproperlyConfigured as error:
        # The driver of a database, for example, in a first line of many.
        fault = str(error).partition("\n")[0].rstrip(".")
        raise SetupError(
            f"Django can't be set up: {fault}. Install what is missing into the environment that"
            " runs notifyd, or set [django] python to one that has it."
        ) from error


def _advice(module: str, error: Exception) -> str:
    fault = f"{type(error).__name__}: {error}".rstrip(".")
    words = f"Django can't be set up with {module!r}: {fault}."
    if isinstance(error, OSError) and isinstance(error.filename, str):
        remedy = closed_fault(error.filename)
        if remedy is not None:
            return f"{words} The way there: {remedy}."
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return f"{words} Run `python -m django check` with these settings to see the fault."
    if f"{module}.".startswith(f"{error.name}."):
        return f"{words} Set [django] path to the directory that has manage.py."
    return (
        f"{words} Install what is missing into the environment that runs notifyd, or set"
        " [django] python to the site's virtual environment."
    )


def faults() -> list[str]:
    """Return what is unsafe or missing in the project that is set up, and what to do about it."""
    missing = [
        f'Add "{name}" to INSTALLED_APPS: notifyd decides by its models who may see what.'
        for name in ("django.contrib.auth", "django.contrib.contenttypes")
        if not apps.is_installed(name)
    ]
    try:
        # An empty SECRET_KEY shows when it is read, and sesame reads it when it is imported.
        return missing or [*_database_faults(), *_sesame_faults()]
    except (ImportError, ImproperlyConfigured, NotImplementedError) as error:
        return [f"Correct the site's settings: {error}"]


def _database_faults() -> Iterator[str]:
    alias = router.db_for_write(get_user_model())
    if connections.settings[alias]["ENGINE"] == "django.db.backends.dummy":
        yield f"Set DATABASES[{alias!r}]: notifyd reads the users there."


def _sesame_faults() -> Iterator[str]:
    sesame: Any = importlib.import_module("sesame.settings")
    mixin = import_string("sesame.backends.SesameBackendMixin")
    backends = [import_string(path) for path in settings.AUTHENTICATION_BACKENDS]
    if not any(isinstance(backend, type) and issubclass(backend, mixin) for backend in backends):
        yield 'Add "sesame.backends.ModelBackend" to AUTHENTICATION_BACKENDS.'
    if not isinstance(sesame.MAX_AGE, int | float) or sesame.MAX_AGE <= 0:
        yield "Set SESAME_MAX_AGE, to 30 (seconds) for example: without it tokens never expire."
    if sesame.TOKENS[0].__name__ == "sesame.tokens_v1":
        yield (
            'Put "sesame.tokens_v2" first in SESAME_TOKENS: tokens of version 1 have no scope,'
            " so that whoever sees one can log in to the site."
        )
    if sesame.ONE_TIME:
        try:
            get_user_model()._meta.get_field("last_login")  # noqa: SLF001 - documented all the same
        except FieldDoesNotExist:
            yield "Unset SESAME_ONE_TIME: without a field last_login tokens stay valid after use."


def create_token(username: str, *, scoped: bool = True) -> str:
    """Return a new token of that user, for trying out; unscoped as the plain guide has it.

    Raises SetupError where there is no such user, or no database to ask.
    """
    users: Any = get_user_model()
    get_token = import_string("sesame.utils.get_token")
    try:
        user = users._default_manager.get(**{users.USERNAME_FIELD: username})  # noqa: SLF001 - documented all the same
    except users.DoesNotExist:
        raise SetupError(f"There is no user {username!r}.") from None
    except Error as error:
        raise SetupError(f"The user can't be read: {describe(error)}") from error
    finally:
        connections.close_all()
    return str(get_token(user, SCOPE if scoped else ""))


def site_option(name: str) -> str | None:
    """Return an option of the site's own NOTIFYD, by which `notifyd.django` publishes."""
    options = getattr(settings, "NOTIFYD", None)
    value = options.get(name) if isinstance(options, dict) else None
    return value if isinstance(value, str) else None


def cache_url(alias: str) -> str:
    """Return the address of the Redis behind CACHES[alias]. It may contain a password.

    Of several addresses the first is the one that is written to. Raises SetupError.
    """
    cache = settings.CACHES.get(alias)
    if cache is None:
        known = ", ".join(settings.CACHES)
        raise SetupError(
            f"CACHES has no {alias!r}: set [django] cache to one of {known}, or set [redis] url."
        )
    location = cache.get("LOCATION", "")
    if isinstance(location, str):
        # Both separators are in use, and either may be part of a password.
        location = re.split(r"[;,]\s*(?=\w+://)", location)
    first = str(next(iter(location), ""))
    options = {name.lower(): value for name, value in (cache.get("OPTIONS") or {}).items()}
    if "sentinels" in options:
        raise SetupError(f"CACHES[{alias!r}] uses Sentinel, which is not supported yet.")
    if urlsplit(first).scheme not in {"redis", "rediss", "unix"}:
        raise SetupError(
            f"CACHES[{alias!r}] has no redis://, rediss:// or unix:// address: set [redis] url."
        )
    return _complete(first, {**options, **options.get("connection_pool_kwargs", {})})


def _complete(address: str, options: dict[str, Any]) -> str:
    """Put into the address what django-redis or Django takes from the options beside it."""
    url = urlsplit(address)
    host = url.netloc.rpartition("@")[2]
    username = url.username or quote(str(options.get("username") or ""), safe="")
    password = url.password or quote(str(options.get("password") or ""), safe="")
    netloc = f"{username}:{password}@{host}" if username or password else host
    query = [url.query] if url.query else []
    # A path that names a database wins, as it does in redis-py. A Unix socket's names a file.
    in_path = url.scheme != "unix" and url.path.strip("/")
    if options.get("db") is not None and not in_path and "db=" not in url.query:
        query.append(f"db={options['db']}")
    # Not by urlunsplit, which would leave out the slashes of unix:///path.
    return f"{url.scheme}://{netloc}{url.path}{'?' if query else ''}{'&'.join(query)}"
