"""The newsroom as a person finds it: seeded, and served by Django's development server."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Self

from daemons import ROOT
from servers import LOOPBACK, free_port
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from daemons import Site

MANAGE = str(ROOT / "site" / "manage.py")

_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def seed(site: Site) -> None:
    """Fill the site's database as `make demo` does: its people can log in."""
    for words in (["migrate", "--verbosity=0"], ["seed"]):
        subprocess.run(
            [sys.executable, MANAGE, *words],
            env=site.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )


class WebServer:
    """`manage.py runserver` for a site. `settings` are further variables of its environment."""

    def __init__(self, site: Site, log: Path, **settings: str) -> None:
        self.address = f"http://{LOOPBACK}:{free_port()}"
        self._environment = {**site.environment, **settings}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        port = self.address.rpartition(":")[2]
        with self._log.open("wb") as log:
            process = self._process = subprocess.Popen(
                [sys.executable, MANAGE, "runserver", "--noreload", f"{LOOPBACK}:{port}"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: process.poll() is not None or self._answers(), 30)
        assert process.poll() is None, self.log
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            with _HTTP.open(f"{self.address}/admin/login/") as answer:
                return bool(answer.status)
        except urllib.error.URLError:
            return False
