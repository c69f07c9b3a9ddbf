"""Who may import whom: downward only, and never a neighbour."""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

# The part of websockets that does no input and output.
SANS_IO = {
    f"websockets.{name}"
    for name in (
        *("datastructures", "exceptions", "frames", "http11"),
        *("protocol", "server", "streams", "typing"),
    )
}

# What the pure core leaves to the edges: sockets, processes, clocks and logging.
IMPURE = {"asyncio", "logging", "select", "selectors", "signal", "socket", "ssl", "subprocess"}
IMPURE |= {"time"}

DJANGO = {"django", "django_redis", "sesame"}
DJANGO_EDGES = {"auth", "tickets"}
# Apps for Django: one for the site, and the users of a site whose project is not imported.
DJANGO_APPS = ("notifyd.accounts", "notifyd.django")

# What the site's app shares with the daemon: the fields of an entry, and how both judge them.
SITE = {"notifyd", "notifyd.core.events", "notifyd.core.traceparent"}

# An edge of several files carries its name in front of theirs: bus_link.py is a part of bus.py.
# These are parts without it. Within an edge the files may know one another, though not in a
# cycle; for everybody else they are the edge.
PARTS = {
    "assembly": "service",  # How the service's parts are put together.
    "logins": "service",  # Where authentication, tickets and revocation meet.
    "admission": "server",  # Who may become a client of the server.
    "client": "server",  # What the server makes of a connection.
    "listener": "server",  # Where the server's connections come from.
    "timers": "server",  # When the server's clients are pinged, and given up.
    "overview": "service",  # What the service tells about all its parts.
    "preflight": "service",  # What is settled before the service is built.
}


class Import(NamedTuple):
    """One name that a module imports, and whether for the type checker only."""

    name: str
    typing_only: bool


@functools.cache
def modules() -> dict[str, str]:
    """Return the source of every module of the package by its dotted name."""
    found = {}
    for path in (ROOT / "notifyd").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return found


def imports(source: str) -> Iterator[Import]:
    """Yield what a module imports, at its top, inside functions and for the type checker."""
    tree = ast.parse(source)
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, id(node) in guarded)
        elif isinstance(node, ast.ImportFrom):
            # A dot would hide how far up a step goes.
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            for name in _targets(str(node.module), [alias.name for alias in node.names]):
                yield Import(name, id(node) in guarded)


def _targets(module: str, names: list[str]) -> list[str]:
    # `from package import module` reaches the module, `from module import thing` does not.
    known = modules()
    below = [f"{module}.{name}" for name in names]
    return [name if name in known else module for name in below]


def edge(module: str) -> str | None:
    """Return the edge that a module is or belongs to."""
    folder, _, file = module.rpartition(".")
    return PARTS.get(file, file.partition("_")[0]) if folder == "notifyd.daemon" else None


def storey(module: str) -> int:
    """Return how high up a module stands; one may import only from below."""
    if module == "notifyd":
        return 0
    if module == "notifyd.core" or module.startswith("notifyd.core."):
        return 1
    if edge(module) == "service":
        return 3
    return 2 if module.startswith("notifyd.daemon") else 4


def offence(module: str, target: str) -> str | None:
    """Return what is wrong with a module's import of a target, or None."""
    top = target.split(".", maxsplit=1)[0]
    if top == "notifyd":
        return _step(module, target)
    if top in DJANGO and not (edge(module) in DJANGO_EDGES or module.startswith(DJANGO_APPS)):
        return "only the Django side of the daemon imports Django"
    if storey(module) > 1:
        return None
    if top in IMPURE:
        return "the core is pure"
    if top in sys.stdlib_module_names or top == "msgspec" or target in SANS_IO:
        return None
    return "the core has the standard library, msgspec and websockets' Sans-I/O modules"


def _step(module: str, target: str) -> str | None:
    if module.startswith("notifyd.django"):
        ours = target.startswith("notifyd.django") or target in SITE
        return None if ours else "of the daemon, the site's app knows the form of events only"
    if storey(target) < storey(module) or (edge(module) and edge(module) == edge(target)):
        return None
    if storey(module) == storey(target) and storey(module) in {1, 4}:
        return None
    return "a step upward or sideways"


@pytest.mark.parametrize("module", sorted(modules()))
def test_direction(module: str) -> None:
    """Imports go downward: cli, service, edges, core; edges do not import one another."""
    found = {name: offence(module, name) for name, _ in imports(modules()[module])}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_no_cycle() -> None:
    """No module imports itself by way of others."""
    graph = {
        module: {name for name, typing_only in imports(source) if not typing_only}
        for module, source in modules().items()
    }
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("notifyd.core.events", "notifyd.daemon.bus"),
        ("notifyd.core.events", "redis"),
        ("notifyd.core.events", "time"),
        ("notifyd.core.session", "websockets.asyncio.server"),
        ("notifyd.core.session", "websockets"),
        ("notifyd.daemon.bus", "notifyd.daemon.relay"),
        ("notifyd.daemon.bus", "notifyd.daemon.service"),
        ("notifyd.daemon.client", "notifyd.daemon.config"),
        ("notifyd.daemon.bus", "django.conf"),
        ("notifyd.daemon.service", "notifyd.cli"),
        ("notifyd.daemon.service", "sesame.utils"),
        ("notifyd.cli", "django"),
        ("notifyd.django.publisher", "notifyd.daemon.bus"),
        ("notifyd.django.publisher", "notifyd.core.hub"),
    ],
)
def test_forbidden(module: str, target: str) -> None:
    """A step upward, sideways or into the wrong library is an offence."""
    assert offence(module, target)


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("notifyd.core.audience", "notifyd.core.events"),
        ("notifyd.core.session", "websockets.server"),
        ("notifyd.core.events", "msgspec"),
        ("notifyd.daemon.server", "notifyd.core.session"),
        ("notifyd.daemon.server", "notifyd.daemon.client"),
        ("notifyd.daemon.bus", "notifyd.daemon.bus_link"),
        ("notifyd.daemon.auth", "django.db"),
        ("notifyd.daemon.auth_accounts", "sesame.utils"),
        ("notifyd.daemon.metrics", "notifyd"),
        ("notifyd.daemon.service", "notifyd.daemon.bus"),
        ("notifyd.cli", "notifyd.daemon.service"),
        ("notifyd.cli", "notifyd.daemon.control"),
        ("notifyd.__main__", "notifyd.cli"),
        ("notifyd.django.publisher", "notifyd.core.events"),
        ("notifyd.django.publisher", "django.db"),
        ("notifyd.accounts.models", "django.db"),
    ],
)
def test_allowed(module: str, target: str) -> None:
    """A step downward is not."""
    assert offence(module, target) is None


def test_names_of_modules() -> None:
    """Modules are nouns: none hides the standard library's, none is a box for odds and ends."""
    boxes = {"base", "common", "helpers", "manager", "misc", "utils"}
    last = {name.rpartition(".")[2] for name in modules()}
    assert last & (boxes | sys.stdlib_module_names) == set()
