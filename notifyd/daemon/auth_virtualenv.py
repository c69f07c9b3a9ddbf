"""The site's virtual environment: its packages in front of those beside notifyd.

It has to be activated before Django is imported for the first time. Nothing here imports it.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from notifyd.core.virtualenv import interpreter_version, outdated, parse_configuration
from notifyd.daemon.auth_access import closed_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

# What notifyd itself runs on stays its own, whatever versions the site has: once a package is
# imported, all of its modules come from the same place.
_OWN: Final = (
    "msgspec",
    "prometheus_client",
    "redis.asyncio",
    "sdnotify",
    "structlog",
    "websockets.server",
)
# What the site brings, or shares with the daemon.
_SHARED: Final = ("django", "django-redis", "django-sesame", "redis")
_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


class VirtualenvError(Exception):
    """The site's environment can't be used; the text completes "NAME = VALUE ..."."""


class _Prefix(NamedTuple):
    """Where an environment is, the minor version of its Python, and who lends it packages."""

    path: Path
    version: str
    lender: Path | None


def activate(python: str) -> None:
    """Have the packages of an environment be found before those beside notifyd.

    `python` is a virtual environment or the Python in one. Files *.pth count, as they do when that
    Python starts (see the documentation of the module site). Raises VirtualenvError.
    """
    directories = packages(python)
    for name in _OWN:
        importlib.import_module(name)
    before = [*sys.path]
    for directory in directories:
        if directory not in before:
            site.addsitedir(directory)
    added = [each for each in sys.path if each not in before]
    kept = [each for each in sys.path if each in before]
    # Behind the standard library, as everywhere.
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    place = next((n for n, each in enumerate(kept) if each in own), len(kept))
    sys.path[:] = [*kept[:place], *added, *kept[place:]]


def packages(python: str) -> Sequence[str]:
    """Return the directories with an environment's packages. Raises VirtualenvError."""
    prefix = _prefix(python)
    if prefix.version != _VERSION:
        raise VirtualenvError(
            f"has Python {prefix.version or 'of an unknown version'}, and notifyd runs on"
            f" {_VERSION}, which can't load its compiled packages; make the environment with"
            f" python{_VERSION}, or install notifyd into it and start it from there"
        )
    lib = f"python{prefix.version}/site-packages"
    found = [prefix.path / "lib" / lib, prefix.path / "lib64" / lib]
    if prefix.lender is not None:
        found += map(Path, site.getsitepackages([str(prefix.lender)]))
    unique: dict[Path, str] = {}
    for each in found:
        if each.is_dir():
            # lib64 is lib by another name in most environments.
            unique.setdefault(each.resolve(), str(each))
    if not unique:
        raise VirtualenvError(f"has no {found[0]}; write the path of another one")
    return [*unique.values()]


def warnings(python: str) -> list[str]:
    """Return a sentence for each package that is older there than notifyd needs it.

    Raises VirtualenvError.
    """
    found = metadata.distributions(path=list(packages(python)))
    installed = {each.metadata["Name"]: each.version for each in found}
    required = metadata.requires("notifyd") or []
    return [
        f"{python} has {name} {version}, and notifyd needs {least} or newer: upgrade it there."
        for name, version, least in outdated(required, installed, _SHARED)
    ]


def _prefix(python: str) -> _Prefix:
    path = Path(python)
    if (fault := closed_fault(python)) is not None:
        raise VirtualenvError(f"can't be read: {fault}")
    if not path.exists():
        raise VirtualenvError("does not exist; write the path of the site's virtual environment")
    # A virtual environment's Python is a link to another one: its own place is what counts.
    folder = path if path.is_dir() else path.parent.parent
    try:
        configured = parse_configuration((folder / "pyvenv.cfg").read_text("utf-8", "replace"))
    except FileNotFoundError:
        # A Python that stands for itself carries its version in its name.
        binary = folder / "bin" / "python3" if path.is_dir() else path
        return _Prefix(folder, interpreter_version(Path(os.path.realpath(binary)).name), folder)
    except OSError as error:
        raise VirtualenvError(f"has a pyvenv.cfg that can't be read: {error.strerror}") from None
    lender = Path(configured.home).parent if configured.shared and configured.home else None
    return _Prefix(folder, configured.version, lender)
