"""The Debian package as a file: the same at each build, clean, and with everything in its place."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from daemons import ROOT

from notifyd.core.option_table import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def contents(package: Path) -> dict[str, str]:
    """Give the modes and owners of the package's files by their names."""
    listing = subprocess.run(
        ["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in listing.splitlines():
        mode, owner, *_, name = line.partition(" -> ")[0].split(maxsplit=5)
        found[name.removeprefix(".")] = f"{mode} {owner}"
    return found


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the package's files."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return folder


def test_two_builds_are_the_same(package: Path) -> None:
    """A second build has the same bytes."""
    first = hashlib.sha256(package.read_bytes()).hexdigest()
    subprocess.run([ROOT / ".ci" / "deb"], capture_output=True, check=True)
    assert hashlib.sha256(package.read_bytes()).hexdigest() == first


def test_lintian(package: Path) -> None:
    """Lintian has nothing against it, and every override is used and has its reason."""
    subprocess.run([ROOT / ".ci" / "needs", "lintian"], check=True)
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "unused-override" not in done.stdout
    lines = (ROOT / "packaging/debian/notifyd.lintian-overrides").read_text().split("\n\n")
    assert [block for block in lines if not block.startswith("# ")] == []


def test_everything_is_there(contents: dict[str, str]) -> None:
    """Commands, units, configuration, man pages, rules and dashboard have their places."""
    places = [
        "/usr/bin/notifyd",
        "/usr/lib/notifyd/bin/notifyd",
        "/usr/libexec/notifyd/stop",
        "/usr/lib/sysusers.d/notifyd.conf",
        "/usr/share/man/man8/notifyd.8.gz",
        "/usr/share/man/man5/notifyd.toml.5.gz",
        "/usr/share/notifyd/grafana/notifyd.json",
        "/usr/share/notifyd/grafana/rules/notifyd.rules.yml",
        *(
            f"/lib/systemd/system/{unit.name}"
            for unit in (ROOT / "packaging" / "systemd").iterdir()
            if unit.suffix
        ),
    ]
    assert [place for place in places if place not in contents] == []
    site = "/usr/lib/notifyd/lib/python3.11/site-packages/"
    for name in ("notifyd/cli.py", "psycopg/__init__.py", "async_timeout/__init__.py"):
        assert site + name in contents


def test_who_may_read_it(contents: dict[str, str]) -> None:
    """All is root's, and what may hold a secret is not for everybody."""
    assert {value.split()[1] for value in contents.values()} == {"root/root"}
    assert contents["/etc/notifyd/notifyd.toml"].startswith("-rw-r----- ")
    assert contents["/etc/default/notifyd"].startswith("-rw-r----- ")
    assert contents["/etc/notifyd/"].startswith("drwxr-x--- ")


def test_no_trace_of_the_build(contents: dict[str, str], unpacked: Path) -> None:
    """No file names the folder of the build, and none is there that only a build needs."""
    assert [name for name in contents if re.search(r"\.pyc$|/activate|__pycache__", name)] == []
    found = subprocess.run(
        ["grep", "-rIl", "--fixed-strings", str(ROOT), unpacked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_the_configuration_explains_itself(unpacked: Path) -> None:
    """Every option stands in the configuration, commented out at its default."""
    text = (unpacked / "etc/notifyd/notifyd.toml").read_text()
    missing = [
        key for key, option in OPTIONS.items() if not re.search(rf"(?m)^#{option.name} = ", text)
    ]
    assert missing == []


def test_the_command_works(unpacked: Path) -> None:
    """The command works with Debian's Python and what the package carries."""
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-m", "notifyd", "--version"],
        env={"PYTHONPATH": str(unpacked / "usr/lib/notifyd/lib/python3.11/site-packages")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("notifyd "), done.stderr
