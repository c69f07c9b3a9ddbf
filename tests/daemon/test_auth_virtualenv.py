from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from daemons import ROOT, clean_environment
from unprivileged import unprivileged

from notifyd.daemon.auth_virtualenv import VirtualenvError, packages, warnings

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OURS = Path(sysconfig.get_path("purelib"))

# As the program does it; then tells where some modules come from.
ACTIVATE = """
import importlib, json, sys
from notifyd.daemon.auth_virtualenv import activate
activate(sys.argv[1])
names = "django", "django.db", "redis", "structlog", "theirs", "linked", "statistics"
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Give a virtual environment for this Python, with packages of its own and some of ours."""
    return build(tmp_path / "venv")


def build(prefix: Path, version: str = VERSION, more: str = "") -> Path:
    """Make a virtual environment as far as files go, and return its path."""
    site = prefix / "lib" / f"python{version}" / "site-packages"
    site.mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}.1\n{more}")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(sys.executable)
    (prefix / "lib64").symlink_to("lib")
    # Django by another way: whoever imports it from here has it from here.
    (site / "django").symlink_to(OURS / "django")
    for name in ("redis", "structlog", "statistics", "theirs"):
        (site / f"{name}.py").touch()
    project = prefix / "project"
    project.mkdir()
    (project / "linked.py").touch()
    (site / "editable.pth").write_text(f"{project}\n")
    return prefix


def install(prefix: Path, **versions: str) -> None:
    """Note that packages of these versions are installed in an environment."""
    for name, version in versions.items():
        folder = (
            prefix / "lib" / f"python{VERSION}" / "site-packages" / f"{name}-{version}.dist-info"
        )
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")


def activated(python: Path) -> Any:
    """Return where some modules come from in a process that has activated an environment."""
    done = subprocess.run(
        [sys.executable, "-c", ACTIVATE, str(python)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [".", "bin/python"])
def test_activate(environment: Path, name: str) -> None:
    """What the site has comes from there, by *.pth too, but for what notifyd itself runs on."""
    site = environment / "lib" / f"python{VERSION}" / "site-packages"
    assert activated(environment / name) == {
        "django": str(site / "django" / "__init__.py"),
        "django.db": str(site / "django" / "db" / "__init__.py"),
        "redis": str(OURS / "redis" / "__init__.py"),
        "structlog": str(OURS / "structlog" / "__init__.py"),
        "theirs": str(site / "theirs.py"),
        "linked": str(environment / "project" / "linked.py"),
        # The standard library comes first, as everywhere.
        "statistics": str(Path(sysconfig.get_path("stdlib")) / "statistics.py"),
    }


def test_activate_our_own() -> None:
    """The environment that notifyd is installed in is as good as none."""
    assert packages(sys.prefix) == [str(OURS)]


def test_another_version(tmp_path: Path) -> None:
    """An environment for another Python is refused with both versions and what to do."""
    other = build(tmp_path / "venv", "3.9")
    with pytest.raises(VirtualenvError) as caught:
        packages(str(other))
    assert str(caught.value) == (
        f"has Python 3.9, and notifyd runs on {VERSION}, which can't load its compiled packages;"
        f" make the environment with python{VERSION}, or install notifyd into it and start it from"
        " there"
    )


def test_missing(tmp_path: Path) -> None:
    """A path where nothing is is refused, and one where no packages are."""
    with pytest.raises(VirtualenvError, match="does not exist; write the path of the site's virt"):
        packages(str(tmp_path / "venv"))
    (tmp_path / "pyvenv.cfg").write_text(f"version = {VERSION}")
    with pytest.raises(VirtualenvError, match=r"has no .*/site-packages; write the path of anot"):
        packages(str(tmp_path))


def test_closed(folder: Path) -> None:
    """An environment that the daemon may not enter is told with what is in the way."""
    prefix = build(folder / "venv")
    with unprivileged(), pytest.raises(VirtualenvError, match=f"can't be read: {folder} is closed"):
        packages(str(prefix))


def test_closed_configuration(folder: Path) -> None:
    """So is one whose pyvenv.cfg can't be read."""
    prefix = build(folder / "venv")
    folder.chmod(0o755)
    (prefix / "pyvenv.cfg").chmod(0)
    with unprivileged(), pytest.raises(VirtualenvError, match=r"a pyvenv\.cfg that can't be read"):
        packages(str(prefix))


def test_python_of_its_own(tmp_path: Path) -> None:
    """A Python that is no virtual environment has its version in its file's name."""
    site = tmp_path / "lib" / f"python{VERSION}" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / f"python{VERSION}").touch()
    (tmp_path / "bin" / "python3").symlink_to(f"python{VERSION}")
    assert packages(str(tmp_path)) == [str(site)]
    assert packages(str(tmp_path / "bin" / "python3")) == [str(site)]


def test_python_of_unknown_version(tmp_path: Path) -> None:
    """One that doesn't is refused."""
    with pytest.raises(VirtualenvError, match="has Python of an unknown version, and notifyd runs"):
        packages(str(tmp_path))


def test_shared_packages(tmp_path: Path) -> None:
    """An environment that shows the packages of its Python's own, shows them here, too."""
    base = tmp_path / "base"
    (base / "lib" / f"python{VERSION}" / "site-packages").mkdir(parents=True)
    more = f"home = {base}/bin\ninclude-system-site-packages = true\n"
    found = packages(str(build(tmp_path / "venv", more=more)))
    assert found[-1] == str(base / "lib" / f"python{VERSION}" / "site-packages")
    assert len(found) == 2


def test_warnings(environment: Path) -> None:
    """What is older there than notifyd is made for is named with both versions."""
    install(environment, Django="4.2.16", django_sesame="3.2.5", redis="5.0.1", structlog="1.0")
    assert warnings(str(environment)) == [
        f"{environment} has django 4.2.16, and notifyd needs 5.2 or newer: upgrade it there.",
        f"{environment} has redis 5.0.1, and notifyd needs 6.2 or newer: upgrade it there.",
    ]
