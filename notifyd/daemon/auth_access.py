"""Files of the site that the daemon can't reach: what is in the way, and what to do about it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from notifyd.core.remedies import closed, sqlite


def obstacle(name: str) -> str | None:
    """Return what keeps this process from reading a file or directory, None if nothing does.

    That is the first directory on the way that it can't enter, or what is named itself. What does
    not exist is not in the way.
    """
    path = Path(name)
    for each in reversed(path.parents):
        if not os.access(each, os.F_OK):
            return None
        if not os.access(each, os.X_OK):
            return str(each)
    mode = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK  # noqa: PTH112 - raises nothing
    readable = os.access(path, mode) or not os.access(path, os.F_OK)
    return None if readable else str(path)


def closed_fault(name: str) -> str | None:
    """Return why a file or directory can't be read and what to do, None if it can or is missing."""
    found = obstacle(name)
    return closed(found, _user()) if found is not None else None


def sqlite_fault(name: str) -> str | None:
    """Return why a SQLite file can't be used and what to do, None if nothing is in its way."""
    folder = Path(name).parent
    if (fault := closed_fault(name)) is not None:
        return fault
    if not folder.is_dir():
        return f"there is no directory {folder}"
    writable = os.access(folder, os.W_OK) and (os.access(name, os.W_OK) or not Path(name).exists())
    return None if writable else sqlite(str(folder), _user())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
