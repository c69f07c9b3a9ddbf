"""A site that follows the guide "Integrate with Django" is served without a change.

What is asserted here has happened in guide_world.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from daemons import ROOT, clean_environment

WORLD = Path(__file__).parent / "guide_world.py"
SITE = str(Path(__file__).parent / "guide_site")
CONFIGURATION = Path("/etc/notifyd/notifyd.toml")
KEYS = {"model", "object", "message", "timestamp", "user", "content_type_id", "object_id"}


def own_network() -> list[str]:
    """Return the words that give a command a network of its own; skip where there is none."""
    words = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    attempt = [*words, "ip", "link", "set", "lo", "up"]
    done = subprocess.run(attempt, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
    return words


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    """Have the guide acted out in a network of its own, and tell what happened."""
    if CONFIGURATION.exists():
        pytest.skip(f"{CONFIGURATION} exists: the daemon would not be without configuration")
    with tempfile.TemporaryDirectory(prefix="notifyd-") as folder:
        # In a session, and so a process group, of its own: its servers end with it, come what may.
        process = subprocess.Popen(
            [*own_network(), sys.executable, WORLD, folder],
            env={
                **clean_environment(),
                "DJANGO_SETTINGS_MODULE": "guide.settings",
                "NEWSROOM_DATABASE": f"{folder}/newsroom.sqlite3",
                "PYTHONPATH": os.pathsep.join([SITE, f"{ROOT}/site", f"{ROOT}/tests"]),
                "XDG_RUNTIME_DIR": folder,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            happened, errors = process.communicate(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    return {**json.loads(happened), "errors": errors}


@pytest.mark.long
def test_terminal(world: dict[str, Any]) -> None:
    """Whoever pastes a token into `python -m websockets` sees the admin's action, verbatim."""
    published, screen = world["terminal"].values()
    assert "Connected to ws://localhost:8888/." in screen
    assert f"< {published}" in screen


def test_event(world: dict[str, Any]) -> None:
    """The event has the guide's seven keys, and tells who changed what."""
    event = json.loads(world["terminal"]["published"])
    assert event.keys() == KEYS
    assert (event["user"], event["object"]) == ("admin", "Über Nacht: the harbour thaws")


def test_not_a_token(world: dict[str, Any]) -> None:
    """Whoever pastes something else is told that authentication failed."""
    words = "Connection closed: 4401 (private use) authentication failed."
    assert words in world["refused in terminal"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_page(world: dict[str, Any], host: str) -> None:
    """A page of the development server gets the event, over either family of addresses."""
    if host not in world["pages"]:
        pytest.skip("this machine has no IPv6")
    published, received = world["pages"][host].values()
    assert json.loads(received)["object"] == f"Seen over {host}"
    assert received == published


@pytest.mark.parametrize("kind", ["expired", "invalid", "inactive"])
def test_refused(world: dict[str, Any], kind: str) -> None:
    """A token that is no good is closed with the code that means just that."""
    assert world["refusals"][kind] == [4401, "authentication failed"]


@pytest.mark.parametrize("name", ["viewer", "changer", "stranger", "admin"])
def test_permissions(world: dict[str, Any], name: str) -> None:
    """Everybody gets what the guide's rule grants, verbatim and in order, and nothing else."""
    reader = world["readers"][name]
    assert reader["received"] == reader["expected"]


def test_permissions_differ(world: dict[str, Any]) -> None:
    """The readers of the test above are worth comparing: each sees another part of the models."""
    seen = {
        name: {json.loads(text)["model"] for text in reader["expected"]}
        for name, reader in world["readers"].items()
    }
    assert seen["viewer"] == {"article", "session"}
    assert seen["changer"] == {"article", "comment", "user"}
    assert seen["stranger"] == set()
    assert seen["admin"] > {"article", "comment", "group", "log entry", "permission", "session"}


def test_nothing_was_amiss(world: dict[str, Any]) -> None:
    """The daemon ends well, and has nothing to complain of but the tokens that were no good."""
    log = [json.loads(line) for line in world["errors"].splitlines() if line.startswith("{")]
    complaints = {line["event"] for line in log if line["level"] not in {"info", "debug"}}
    assert world["exit code"] == 0
    assert complaints == {"auth.failed"}
    assert "Traceback" not in world["errors"]
