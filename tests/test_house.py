"""The house's numbers and manners, as far as no linter knows them."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FOLDERS = ("notifyd", "tests", "site", "bench", "docs", "grafana")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = [
    path for path in PYTHON if path.name.startswith("test_") and ROOT / "tests" in path.parents
]
TEXTS = [
    path
    for pattern in ("*", ".ci/*", "packaging/**/*", "grafana/**/*", "docs/**/*", "site/**/*")
    for path in ROOT.glob(pattern)
    if path.is_file() and path.suffix not in {".png", ".pyc"}
]

LONGEST_FUNCTION = 60
LONGEST_MODULE = 300
MOST_COLLABORATORS = 5

LOCKS = [
    ROOT / "requirements.txt",
    ROOT / "packaging" / "debian" / "requirements.txt",
    ROOT / "packaging" / "debian" / "requirements-build.txt",
]

# Put together here, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(" + "TO" + "DO|FIX" + "ME|X" + r"XX)\b")
# What switches a check off, and what must follow it: a word of reason at least.
EXEMPTION = re.compile(r"# *(noqa\b(: *[A-Z]+\d+(, *[A-Z]+\d+)*)?|pragma: .*?cover\w*)")
REASON = re.compile(r"\w{3}")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    """Return how a file is called in a failure."""
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    """Yield every function and method of a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Return how many lines a function takes, its docstring included."""
    return (function.end_lineno or 0) - function.lineno + 1


def collaborators(function: Function) -> int:
    """Return how many arguments besides self may be given by position."""
    return len(function.args.posonlyargs) + len(function.args.args) - 1


def is_sentence(text: str | None) -> bool:
    """Tell whether a docstring is one sentence."""
    words = " ".join((text or "").split())
    return words.endswith(".") and not re.search(r"[.?!] [A-Z]", words)


def pinned(path: Path) -> dict[str, str]:
    """Return the releases of a list of requirements, each of which has to have a hash."""
    text = path.read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE))
    assert len(pins) == len(re.findall(r"^\w", text, re.MULTILINE))
    return pins


def unexplained(source: str) -> list[str]:
    """Return the comments that switch a check off and don't say why."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [
        (token.string, EXEMPTION.search(token.string))
        for token in tokens
        if token.type == tokenize.COMMENT
    ]
    return [text for text, match in found if match and not REASON.search(text[match.end() :])]


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_functions_are_short(path: Path) -> None:
    """No function is longer than 60 lines."""
    assert [f.name for f in functions(path) if length(f) > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", [path for path in PYTHON if path not in TESTS], ids=name)
def test_modules_are_short(path: Path) -> None:
    """No module is longer than 300 lines, but for tests, which go with their module."""
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_constructors_take_few_collaborators(path: Path) -> None:
    """A constructor takes five collaborators at most; options are keyword arguments besides."""
    inits = [f for f in functions(path) if f.name == "__init__"]
    assert [f.lineno for f in inits if collaborators(f) > MOST_COLLABORATORS] == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_say_what_they_specify(path: Path) -> None:
    """The docstring of every test is one sentence."""
    tests = [f for f in functions(path) if f.name.startswith("test_")]
    assert [f.name for f in tests if not is_sentence(ast.get_docstring(f))] == []


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_exemptions_give_their_reason(path: Path) -> None:
    """Whatever switches a check off says why, in words behind it."""
    assert unexplained(path.read_text()) == []


@pytest.mark.parametrize("path", sorted({*TEXTS, *PYTHON}), ids=name)
def test_nothing_is_left_unfinished(path: Path) -> None:
    """No file puts work off to later."""
    assert UNFINISHED.findall(path.read_text(errors="replace")) == []


def test_the_rules_notice() -> None:
    """The rules above find what they look for, and let the rest pass."""
    bad = "x = 1  # noqa: E501\ny = 2  # noqa\nz = 3  # pragma: no cover\n"
    good = "x = 1  # noqa: E501, S101 - the table reads best in one line\n# A comment.\n"
    assert len(unexplained(bad)) == 3
    assert unexplained(good) == []
    assert is_sentence("It waits (RFC 6455, section 5.5)\nfor an answer.")
    assert not is_sentence("It waits. It answers.")
    assert not is_sentence("waits")
    assert not is_sentence(None)
    [init] = ast.parse("def __init__(self, a, b, *, c): ...").body
    assert isinstance(init, Function)
    assert (collaborators(init), length(init)) == (2, 1)


@pytest.mark.parametrize("path", LOCKS, ids=name)
def test_requirements_name_no_place(path: Path) -> None:
    """A list of requirements carries no address and no path, of a registry or a machine."""
    text = path.read_text()
    assert "://" not in text
    assert "/" not in text
    assert [line for line in text.splitlines() if line.startswith("-")] == []


def test_requirements_are_pinned() -> None:
    """Every requirement is pinned, with hashes, and satisfies the project's own."""
    pins = pinned(ROOT / "requirements.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    wanted = [Requirement(line) for line in lines]
    missing = [str(r) for r in wanted if not r.specifier.contains(pins.get(r.name, "0"))]
    assert missing == []


def test_packaged_requirements_are_tested_ones() -> None:
    """The Debian package carries the releases that the tests run with, and no tool of theirs."""
    everything = pinned(ROOT / "requirements.txt").items()
    carried, building = (pinned(path) for path in LOCKS[1:])
    assert carried.items() <= everything
    assert building.items() <= everything
    assert {"django", "psycopg-binary", "websockets"} <= carried.keys()
    assert carried.keys() & {"hatchling", "hypothesis", "mypy", "pytest", "ruff"} == set()


def test_requirements_suit_the_oldest_python() -> None:
    """The lists hold what only Debian 12's Python 3.11.2 needs."""
    assert all("async-timeout" in pinned(path) for path in LOCKS[:2])


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "ci", "code"),
    [("", "true", 1), ("test_it.py::test_it: no reason", "true", 0), ("", "", 0)],
    ids=["unlisted", "listed", "not in CI"],
)
def test_skips_fail_unless_listed(line: str, ci: str, code: int, tmp_path: Path) -> None:
    """Under CI=true a skip fails the run unless tests/skips.txt has its id and reason."""
    for module in ("conftest.py", "postgres.py", "servers.py", "waiting.py"):
        shutil.copy(ROOT / "tests" / module, tmp_path)
    (tmp_path / "skips.txt").write_text(line)
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.skip(reason='no reason')\ndef test_it(): pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert run.returncode == code, run.stdout.decode()
