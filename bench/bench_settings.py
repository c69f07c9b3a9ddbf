"""The newsroom's settings, but for tokens that outlive the experiment."""

from newsroom.settings import *  # noqa: F403 - all of them

SESAME_MAX_AGE = 3600
