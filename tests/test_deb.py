"""The Debian package: built twice, looked at as lintian does, and tried without installing it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from daemons import ROOT, clean_environment

import notifyd

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = ROOT / "packaging" / "debian"
MODULES = "usr/lib/notifyd/lib/python3.11/site-packages"

# Two builders who have little in common. The second has no network: the first has left the wheels.
SURROUNDINGS = (
    ("022", {"TZ": "UTC", "LANG": "C.UTF-8"}, ()),
    ("077", {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8"}, ("unshare", "--map-root-user", "--net")),
)


def run(*command: str | Path) -> str:
    """Run a program that must succeed, and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def architecture() -> str:
    """Return how Debian calls this machine's."""
    return run("dpkg", "--print-architecture").strip()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give two packages of this tree, built in different surroundings."""
    folder = tmp_path_factory.mktemp("deb")
    for number, (umask, variables, before) in enumerate(SURROUNDINGS):
        build = subprocess.run(
            [*before, ROOT / ".ci" / "deb", folder / str(number)],
            env=clean_environment() | variables,
            umask=int(umask, 8),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert build.returncode == 0, build.stdout
    return [next((folder / str(number)).glob("*.deb")) for number, _ in enumerate(SURROUNDINGS)]


@pytest.fixture(scope="module")
def package(packages: list[Path]) -> Path:
    """Give the package."""
    return packages[0]


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the package's files in a folder, with Debian's Python where they expect it."""
    folder = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "--extract", package, folder)
    (folder / "usr/bin/python3").symlink_to("/usr/bin/python3")
    return folder


@pytest.fixture(scope="module")
def listing(package: Path) -> dict[str, tuple[str, str]]:
    """Give mode and owner of every file and folder in the package, by its path."""
    found = re.findall(
        r"^(\S+) (\S+) +\d+ \S+ \S+ \./(.*?)/?(?: -> .*)?$",
        run("dpkg-deb", "--contents", package),
        re.MULTILINE,
    )
    return {path: (mode, owner) for mode, owner, path in found}


def test_maintainer_scripts_leave_systemd_alone() -> None:
    """The scripts speak to systemd by Debian's tools only, which heed the machine's policy."""
    for script in DEBIAN.glob("notifyd.p*"):
        for line in script.read_text().splitlines():
            assert "systemctl" not in line or line.lstrip().startswith(("#", "'", '"')), line


@pytest.mark.long
def test_reproducible(packages: list[Path]) -> None:
    """Two builds are the same, byte for byte, whoever builds where, and without a network."""
    first, second = packages
    assert first.name == second.name == f"notifyd_{notifyd.__version__}-1_{architecture()}.deb"
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian(package: Path) -> None:
    """The package passes lintian without a word, exceptions for nothing among them."""
    assert run("lintian", "--fail-on=error,warning", "--allow-root", package) == ""


def test_lintian_exceptions_are_explained() -> None:
    """Each exception for lintian stands below a comment that gives its reason."""
    text = (DEBIAN / "notifyd.lintian-overrides").read_text()
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.splitlines()
        assert lines[0].startswith("# ")
        assert any(line.startswith("notifyd: ") for line in lines)


@pytest.mark.long
def test_owners_and_modes(listing: dict[str, tuple[str, str]]) -> None:
    """Everything is root's; what may hold a secret can't be read by others, all else can."""
    assert {owner for _, owner in listing.values()} == {"root/root"}
    closed = {path for path, (mode, _) in listing.items() if mode[7] != "r"}
    assert closed == {"etc/default/notifyd", "etc/notifyd", "etc/notifyd/notifyd.toml"}
    assert listing["etc/notifyd"][0] == "drwxr-x---"
    assert listing["etc/notifyd/notifyd.toml"][0] == "-rw-r-----"
    programs = {path for path, (mode, _) in listing.items() if re.match("-..x", mode)}
    assert {path for path in programs if not path.endswith(".so")} == {
        "usr/lib/notifyd/bin/notifyd",
        "usr/libexec/notifyd/stop",
    }


@pytest.mark.long
def test_what_is_where(listing: dict[str, tuple[str, str]]) -> None:
    """Units, programs, documentation, alerts and dashboard are where Debian has such things."""
    units = {
        f"lib/systemd/system/{path.name}"
        for path in (ROOT / "packaging" / "systemd").iterdir()
        if path.suffix
    }
    assert units <= listing.keys()
    assert {
        "usr/bin/notifyd",
        "usr/lib/sysusers.d/notifyd.conf",
        "usr/share/doc/notifyd/README.md",
        "usr/share/doc/notifyd/changelog.gz",
        "usr/share/doc/notifyd/copyright",
        "usr/share/doc/notifyd/docs/how-to/install-on-debian.md",
        "usr/share/doc/notifyd/examples/notifyd.service.d/unix-sockets.conf",
        "usr/share/man/man5/notifyd.toml.5.gz",
        "usr/share/man/man8/notifyd.8.gz",
        "usr/share/notifyd/grafana/notifyd.json",
        "usr/share/notifyd/grafana/rules/notifyd.rules.yml",
    } <= listing.keys()
    assert {path.split("/")[0] for path in listing if path} == {"etc", "lib", "usr"}


@pytest.mark.long
def test_libraries(tree: Path) -> None:
    """The environment holds notifyd and the pinned releases of what it needs, and nothing else."""
    lines = (DEBIAN / "requirements.txt").read_text()
    pins = set(re.findall(r"^([a-z0-9-]+)==(\S+)", lines, re.MULTILINE))
    found = {
        (name.lower().replace("_", "-"), version)
        for name, version in (
            path.name.removesuffix(".dist-info").rsplit("-", 1)
            for path in (tree / MODULES).glob("*.dist-info")
        )
    }
    assert found == pins | {("notifyd", notifyd.__version__)}


@pytest.mark.long
def test_no_trace_of_the_build(tree: Path, listing: dict[str, tuple[str, str]]) -> None:
    """No file names the folder of the build or a home, none is a developer's or compiled here."""
    places = ("--regexp=/\\.cache/", f"--regexp={ROOT}", "--regexp=/root/")
    command = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", *places]
    done = subprocess.run(
        [*command, tree / "usr/lib", tree / "etc", tree / "lib"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    unwanted = re.compile(r"\.pyc$|/__pycache__|/activate|/RECORD$|/direct_url\.json$|/bin/pip")
    assert [path for path in listing if unwanted.search(path)] == []


@pytest.mark.long
def test_it_runs(tree: Path) -> None:
    """The command works with Debian's Python alone, and the driver is the compiled one."""
    python = tree / "usr/lib/notifyd/bin/python3"
    version = run(python, "-I", tree / "usr/bin/notifyd", "--version")
    assert version == f"notifyd {notifyd.__version__}\n"
    assert "run the daemon" in run(python, "-I", tree / "usr/bin/notifyd", "--help")
    driver = "import psycopg, sys; print(psycopg.pq.__impl__, sys.prefix)"
    assert run(python, "-I", "-c", driver) == f"binary {tree}/usr/lib/notifyd\n"


@pytest.mark.long
def test_conffiles(package: Path) -> None:
    """Of its files these two are the administrator's: an upgrade asks before it replaces them."""
    found = run("dpkg-deb", "--info", package, "conffiles").split()
    assert found == ["/etc/default/notifyd", "/etc/notifyd/notifyd.toml"]
