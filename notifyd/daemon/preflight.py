"""What is settled before anything is started: the site is set up, the configuration complete."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from notifyd.daemon import auth_project, bus
from notifyd.daemon.config import ConfigError

if TYPE_CHECKING:
    from notifyd.daemon.config import Config


def resolve(config: Config) -> Config:
    """Set up the site's Django, and take from its settings what the configuration leaves open.

    Raises ConfigError with everything that keeps the daemon from running.
    """
    try:
        auth_project.setup(config.django.settings, config.django.path)
        url, setting = config.redis.url, ""
        if not url:
            url, setting = auth_project.bus_url(config.django.cache)
    except auth_project.SetupError as error:
        raise ConfigError([str(error)]) from error
    faults = auth_project.faults()
    if (fault := bus.check_url(url)) is not None:
        faults.append(fault)
    if faults:
        raise ConfigError(faults)
    sources = dict(config.sources)
    module = os.environ["DJANGO_SETTINGS_MODULE"]
    if not config.django.settings:
        sources["django.settings"] = "environment DJANGO_SETTINGS_MODULE"
    if setting:
        sources["redis.url"] = setting
    return dataclasses.replace(
        config,
        django=dataclasses.replace(config.django, settings=module),
        redis=dataclasses.replace(config.redis, url=url),
        sources=sources,
    )
