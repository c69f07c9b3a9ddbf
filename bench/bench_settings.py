"""The newsroom's settings as in production, but for tokens that outlive the experiment."""

from newsroom.settings import *  # noqa: F403 - all of them

DEBUG = False
SESAME_MAX_AGE = 3600
# The experiments publish by themselves, each to a Redis of its own.
NOTIFYD = {"ENABLED": False}  # type: ignore[dict-item] # the newsroom's own has other options
