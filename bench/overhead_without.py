"""The modules of an event's way without the statements that observe it.

The daemon has no switch for that: a switch would cost something itself. So the statements are taken
out of the source as it is loaded: what counts in `stats` or in a client's `events`, and what calls
an observer. What surrounds them is the daemon's own.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

MODULES = {
    "whole": (),
    "uncounted": ("notifyd.daemon.client",),
    "without": ("notifyd.daemon.relay_feeder", "notifyd.daemon.client", "notifyd.daemon.relay"),
}
"""By what is measured, in the order in which they import each other."""


def take_out(kind: str) -> list[str]:
    """Load these modules without those statements, and return the statements.

    Must run before anybody imports them. Exits where one of them has nothing to take out: what
    observes it has got a name that isn't known here, and would be taken for free.
    """
    taken = []
    for name in MODULES[kind]:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        loader = _Loader(name, spec.origin)
        spec.loader = loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        if not loader.taken:
            sys.exit(f"{name} observes nothing any more that {__name__}.py knows")
        taken += loader.taken
    return taken


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the rest; not from the bytecode on the disk, which is the whole."""
        path = self.get_filename(fullname)
        without = _Without()
        tree = without.visit(ast.parse(self.get_data(path)))
        self.taken = [f"{fullname}: {statement}" for statement in without.taken]
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        return code


class _Without(ast.NodeTransformer):
    def __init__(self) -> None:
        self.taken: list[str] = []

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """Take out `self.stats.deliveries += 1` and `self.events += 1`."""
        return self._take(node) if _counts(node.target) else node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """Take out `self.stats.lag = lag`, but not `self.stats = Stats()`."""
        [target] = node.targets[:1]
        return self._take(node) if "self.stats." in ast.unparse(target) else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        """Take out `self._observe(seconds)`."""
        called = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
        return self._take(node) if called.startswith("self._observe") else node

    def _take(self, node: ast.stmt) -> ast.stmt:
        self.taken.append(ast.unparse(node))
        return ast.copy_location(ast.Pass(), node)


def _counts(target: ast.expr) -> bool:
    text = ast.unparse(target)
    return text == "self.events" or text.startswith("self.stats.")
