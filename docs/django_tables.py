"""The rows of the tables in docs/reference/django.md, read from the code of the app."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from notifyd.django import checks, checks_middleware
from notifyd.django.settings import Settings, faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "notifyd.E001": {"fault": faults({"HISTORY": 0})[0]},
    "notifyd.E004": {"fault": "CACHES has no 'bus'", "advice": 'set NOTIFYD["CACHE_ALIAS"].'},
    "notifyd.I001": {"error": ConnectionError()},
    "notifyd.W001": {"key": "HISTROY", "near": ["HISTORY"]},
    "notifyd.W002": {"seconds": 3600},
    "notifyd.W006": {"shared": ["default"]},
    "notifyd.W007": {"policy": "allkeys-lru"},
    "notifyd.W008": {"name": "mysite.signals.publish_event"},
    "notifyd.W009": {"fault": "is in MIDDLEWARE more than once"},
}
"""What the variables stand for in the messages, by id: without them there would be no text."""


class Check(NamedTuple):
    """A message of the checks: its id, its level, and for example its text and its hint."""

    id: str
    level: str
    text: str
    hint: str


def setting_rows() -> list[tuple[str, ...]]:
    """Return the rows of the keys of NOTIFYD: key, default, allowed, meaning."""
    rows: list[tuple[str, ...]] = []
    for option in fields(Settings):
        meaning: str = option.metadata["meaning"]
        secret = " A secret." if not option.repr else ""
        words: str = option.metadata["kind"].words
        end = "" if meaning.endswith(".") else "."
        text = f"{meaning[0].upper()}{meaning[1:]}{end}{secret}"
        rows.append((f"`{option.name.upper()}`", f"`{option.default!r}`", words, text))
    return rows


def check_rows() -> list[tuple[str, ...]]:
    """Return the rows of the checks: id, level, message, hint."""
    return [(f"`{each.id}`", *each[1:]) for each in sorted(found_checks())]


def found_checks() -> Iterator[Check]:
    """Find every message in the code of the checks, with its text as it would be shown.

    Raises NameError for a message with a variable in it for which there is no example.
    """
    for module in (checks, checks_middleware):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                keywords = {each.arg: each.value for each in call.keywords}
                if isinstance(call.func, ast.Attribute) and "id" in keywords:
                    id_ = str(ast.literal_eval(keywords["id"]))
                    names = _Names(module, function, EXAMPLES.get(id_, {}))
                    text, hint = map(names.evaluate, (call.args[0], keywords["hint"]))
                    yield Check(id_, call.func.attr.lower(), text, hint)


class _Names(dict[str, Any]):
    """What the names in a message mean: as the example has it, else as the function assigns it."""

    def __init__(
        self, module: ModuleType, function: ast.FunctionDef, example: Mapping[str, Any]
    ) -> None:
        super().__init__(example)
        self._module = module
        self._assigned = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def __missing__(self, name: str) -> Any:
        # A KeyError here sends the interpreter to the names of the module.
        return self.evaluate(self._assigned[name])

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression in the function."""
        code = compile(ast.Expression(node), str(self._module.__file__), "eval")
        return eval(code, vars(self._module), self)  # noqa: S307 - it is our own code
