"""What is settled before anything is started: the site is set up, the configuration complete."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Final

from notifyd.core.literals import quote
from notifyd.core.site_settings import brought_settings
from notifyd.daemon import auth_project, auth_virtualenv, bus
from notifyd.daemon.config import ConfigError

if TYPE_CHECKING:
    from notifyd.daemon.config import Config

# Daemon and site have to agree on these, so the site's word is taken where nobody else has spoken.
_SHARED: Final = {
    "django.cache": "CACHE_ALIAS",
    "redis.prefix": "PREFIX",
    "redis.url": "REDIS_URL",
}


def resolve(config: Config) -> Config:
    """Set up the site's Django, and take from its settings what the configuration leaves open.

    Raises ConfigError with everything that keeps the daemon from running.
    """
    _check_python(config)
    try:
        config = _set_up(config)
        for key, name in _SHARED.items():
            value = auth_project.site_option(name)
            if value and key not in config.sources:
                config = _set(config, key, value, f'NOTIFYD["{name}"]')
        if not config.redis.url:
            alias = config.django.cache
            url = auth_project.cache_url(alias)
            config = _set(config, "redis.url", url, f"CACHES[{alias!r}]")
    except auth_project.SetupError as error:
        raise ConfigError([str(error)]) from error
    faults = auth_project.faults()
    if (fault := bus.check_url(config.redis.url)) is not None:
        faults.append(f"redis.url ({config.sources['redis.url']}): {fault}.")
    if faults:
        raise ConfigError(faults)
    return config


def cautions(config: Config) -> list[str]:
    """Return what is odd about the site's environment; `resolve` has found it to be of use."""
    return auth_virtualenv.warnings(config.django.python) if config.django.python else []


def _check_python(config: Config) -> None:
    python = config.django.python
    try:
        if python:
            auth_virtualenv.packages(python)
    except auth_virtualenv.VirtualenvError as error:
        source = config.sources.get("django.python", "default")
        raise ConfigError([f"django.python = {quote(python)} ({source}) {error}."]) from error


def _set_up(config: Config) -> Config:
    if config.django.database:
        auth_project.set_up_without_project(brought_settings(config.django))
        return config
    auth_project.setup(config.django.settings, config.django.path)
    if config.django.settings:
        return config
    module = os.environ["DJANGO_SETTINGS_MODULE"]
    return _set(config, "django.settings", module, "environment DJANGO_SETTINGS_MODULE")


def _set(config: Config, key: str, value: str, source: str) -> Config:
    section, _, name = key.partition(".")
    part = dataclasses.replace(getattr(config, section), **{name: value})
    sources = {**config.sources, key: source}
    return dataclasses.replace(config, **{section: part, "sources": sources})
