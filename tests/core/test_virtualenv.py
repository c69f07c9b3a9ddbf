from __future__ import annotations

import pytest

from notifyd.core.virtualenv import (
    Outdated,
    Virtualenv,
    interpreter_version,
    normalize,
    outdated,
    parse_configuration,
)

VENV = """\
home = /usr/bin
include-system-site-packages = false
version = 3.11.2
executable = /usr/bin/python3.11
"""
OTHERS = """\
home=/opt/python/bin
implementation = CPython
version_info = 3.12.4.final.0
include-system-site-packages = True
"""


@pytest.mark.parametrize(
    ("text", "virtualenv"),
    [
        (VENV, Virtualenv("3.11", "/usr/bin", shared=False)),
        (OTHERS, Virtualenv("3.12", "/opt/python/bin", shared=True)),
        ("version = 3.13", Virtualenv("3.13", "", shared=False)),
        ("nonsense\nversion = new", Virtualenv("", "", shared=False)),
    ],
)
def test_configuration(text: str, virtualenv: Virtualenv) -> None:
    """A pyvenv.cfg is read whoever wrote it."""
    assert parse_configuration(text) == virtualenv


@pytest.mark.parametrize(
    ("name", "version"), [("python3.11", "3.11"), ("python3", ""), ("pypy3.10", "")]
)
def test_interpreter(name: str, version: str) -> None:
    """The name of an interpreter's file tells its version."""
    assert interpreter_version(name) == version


@pytest.mark.parametrize(
    ("version", "is_old"),
    [
        ("4.2.16", True),
        ("5.1.9", True),
        ("5.2", False),
        ("5.2.0", False),
        ("5.2.1", False),
        ("6.0a1", False),
        ("unknown", True),
    ],
)
def test_outdated(version: str, is_old: bool) -> None:  # noqa: FBT001 - an outcome
    """What is below the bound is outdated, whatever comes behind the numbers."""
    found = [*outdated(["Django>=5.2.0"], {"django": version}, ["django"])]
    assert found == ([Outdated("django", version, "5.2.0")] if is_old else [])


def test_what_is_not_asked_for() -> None:
    """Packages that nobody asks for, that are missing or have no bound, are passed over."""
    requirements = ["redis>=6.2", "django-sesame>=3.2; extra == 'x'", "plain", "django>=5.2"]
    installed = {"redis": "1", "django_sesame": "3.1", "plain": "1"}
    found = outdated(requirements, installed, ["django", "django-sesame", "plain"])
    assert [*found] == [Outdated("django-sesame", "3.1", "3.2")]


def test_normalize() -> None:
    """A package has one name, however it is written."""
    assert normalize("Django_.Sesame") == normalize("django-sesame") == "django-sesame"
