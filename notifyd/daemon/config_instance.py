"""Several daemons on one host: each instance of notifyd@.service has a name, and so its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/etc/notifyd")

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_NUMBERED: Final = re.compile(r"(.+)-[0-9]+", re.ASCII)


def check_instance(name: str) -> str:
    """Return the name of an instance. Raises ValueError for what can't be part of a file's name."""
    if not _NAME.fullmatch(name):
        raise ValueError("is no name of an instance; write letters, digits, . _ and -")
    return name


def instance_path(name: str, directory: Path = DIRECTORY) -> str:
    """Return the configuration file of an instance: NAME.toml.

    Instances SITE-1, SITE-2 and so on share SITE.toml, unless one of them has a file of its own.
    """
    own = directory / f"{name}.toml"
    numbered = _NUMBERED.fullmatch(name)
    if numbered is None or own.exists():
        return str(own)
    return str(directory / f"{numbered[1]}.toml")
