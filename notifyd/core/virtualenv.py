"""Virtual environments: what their pyvenv.cfg says, and whether their packages are recent enough.

The file is described in the documentation of Python's module site and in PEP 405.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_RELEASE: Final = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_MINOR: Final = re.compile(r"(\d+\.\d+)(?:\.|$)", re.ASCII)
_INTERPRETER: Final = re.compile(r"python(\d+\.\d+)", re.ASCII)
_BOUNDED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)[^;]*>=\s*([0-9.]+)", re.ASCII)


class Virtualenv(NamedTuple):
    """What a pyvenv.cfg says: the minor version of Python, empty if it is silent about that.

    `home` is the directory of the Python that it was made with; `shared` tells whether the
    packages of that one are to be seen, too.
    """

    version: str
    home: str
    shared: bool


def parse_configuration(text: str) -> Virtualenv:
    """Return what the text of a pyvenv.cfg says."""
    values = {}
    for line in text.splitlines():
        key, mark, value = line.partition("=")
        if mark:
            values[key.strip().lower()] = value.strip()
    # The first is written by Python's own venv, the other by those who are faster.
    version = _MINOR.match(values.get("version") or values.get("version_info", ""))
    return Virtualenv(
        version[1] if version else "",
        values.get("home", ""),
        values.get("include-system-site-packages", "").lower() == "true",
    )


def interpreter_version(name: str) -> str:
    """Return the minor version that an interpreter's file name ends with, empty if it has none."""
    found = _INTERPRETER.fullmatch(name)
    return found[1] if found else ""


class Outdated(NamedTuple):
    """A package that is older than it should be."""

    name: str
    version: str
    least: str


def outdated(
    requirements: Iterable[str], installed: Mapping[str, str], names: Iterable[str]
) -> Iterator[Outdated]:
    """Yield those of the named packages that are installed and older than is required.

    Requirements are as in a package's metadata: "django>=5.2" (PEP 508); names are normalized.
    """
    versions = {normalize(name): version for name, version in installed.items()}
    wanted = set(names)
    for requirement in requirements:
        bound = _BOUNDED.match(requirement)
        name = normalize(bound[1]) if bound else ""
        version = versions.get(name) if name in wanted else None
        if bound and version and _release(version) < _release(bound[2]):
            yield Outdated(name, version, bound[2])


def normalize(name: str) -> str:
    """Return a package's name as all ways of writing it have in common (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...]:
    found = _RELEASE.match(version)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
