"""What people install: the wheel, in an environment of its own, far from any checkout."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from daemons import ROOT, clean_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import free_port

pytestmark = pytest.mark.long


def run(*command: str | Path, **variables: str) -> str:
    """Run a program that must succeed, away from the checkout, and return what it says."""
    done = subprocess.run(
        command,
        env=clean_environment() | variables,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def requirements() -> set[str]:
    """Return the names of what notifyd needs, and of what that needs in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    lines = list(project["dependencies"])
    while lines:
        requirement = Requirement(lines.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate()):
            continue
        found.add(name)
        lines += importlib.metadata.requires(name) or []
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", f"--wheel-dir={folder}")
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT)
    [path] = folder.iterdir()
    return Path(path)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the programs of an environment with the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    text = (ROOT / "requirements.txt").read_text()
    found = re.findall(r"^(([a-z0-9-]+)==.*\n(?: .*\n)*)", text, re.MULTILINE)
    entries = {name: entry for entry, name in found}
    (folder / "requirements.txt").write_text("".join(entries[n] for n in sorted(requirements())))
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet")
    run(*pip, "--require-hashes", f"--requirement={folder / 'requirements.txt'}")
    run(*pip, "--no-deps", wheel)
    run(programs / "python", "-m", "pip", "check")
    return Path(programs)


def test_contents(wheel: Path) -> None:
    """The wheel carries every file of the package and of the site, but none that git ignores."""
    listing = ("ls-files", "--cached", "--others", "--exclude-standard", "notifyd", "site")
    known = [path for path in run("git", "-C", ROOT, *listing).split() if (ROOT / path).exists()]
    wanted = {re.sub(r"^site/", "notifyd/demo_site/", path) for path in known}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == wanted


def test_demo(installed: Path, tmp_path: Path) -> None:
    """Without a checkout `notifyd demo` does what `make demo` does; its data is the user's."""
    ports = [f"--{name}={free_port()}" for name in ("site-port", "port", "admin-port")]
    said = run(installed / "notifyd", "demo", "--check", *ports, XDG_STATE_HOME=str(tmp_path))
    assert "heard of the comment only" in said
    assert str(ROOT) not in said
    assert (tmp_path / "notifyd-demo" / "newsroom.sqlite3").exists()
