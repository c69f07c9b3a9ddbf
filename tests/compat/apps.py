"""The site of the compatibility tests as a process, with the notifyd that is to be tried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from daemons import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent


def environment(
    folder: Path, redis_url: str, notifyd: Path = ROOT, url: str = ""
) -> dict[str, str]:
    """Return the environment of a site and of daemons beside it.

    `notifyd` is the folder that the package is in, `url` where pages find the daemon.
    """
    inherited = clean_environment()
    if notifyd != ROOT:
        # Another version's lines are none of ours to be covered.
        inherited = {k: v for k, v in inherited.items() if not k.startswith("COVERAGE")}
    return {
        **inherited,
        "PYTHONPATH": f"{notifyd}:{HERE}",
        "DJANGO_SETTINGS_MODULE": "compatsite.settings",
        "COMPATSITE_DATABASE": str(folder / "compatsite.sqlite3"),
        "COMPATSITE_REDIS": redis_url,
        "COMPATSITE_URL": url,
        "NOTIFYD_REDIS_URL": redis_url,
    }


class App:
    """A process that does the site's deeds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "compatsite.deeds"],
            env=self.environment,
            cwd=self.environment["COMPATSITE_DATABASE"].rpartition("/")[0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, deed: str, *arguments: str) -> Any:
        """Have something done, and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([deed, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{deed} has failed: its traceback is on standard error"
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
