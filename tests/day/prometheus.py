"""Debian's Prometheus as a process: it scrapes one daemon, and goes by the shipped rules."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Self

from boards import RULES
from day.shrinking import SCRAPE, milliseconds, shrink
from servers import LOOPBACK, free_port
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_HTTP: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# What is JSON is YAML as well.
_INTERVALS: Final = {
    "scrape_interval": milliseconds(SCRAPE),
    "scrape_timeout": milliseconds(SCRAPE),
    "evaluation_interval": milliseconds(SCRAPE),
}


class Prometheus:
    """A server with its data in a folder; `target` is the daemon's admin address."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._address = f"{LOOPBACK}:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        job = {"job_name": "notifyd", "static_configs": [{"targets": [target]}]}
        rules = folder / "notifyd.rules.yml"
        rules.write_text(shrink(RULES.read_text()))
        whole = {"global": _INTERVALS, "rule_files": [str(rules)], "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(whole))

    def __enter__(self) -> Self:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder}/prometheus.yml",
                    f"--storage.tsdb.path={self._folder}/prometheus",
                    f"--web.listen-address={self._address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._ready, 30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def value(self, expr: str) -> float | None:
        """Return the value of an expression with one series at most, None where there is none."""
        series = self._get("query", query=expr)["result"]
        return float(series[0]["value"][1]) if series else None

    def series(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression between two Unix times, a value for every step."""
        found: list[dict[str, Any]] = self._get(
            "query_range", query=expr, start=str(start), end=str(end), step=str(step)
        )["result"]
        return found

    def _ready(self) -> bool:
        try:
            with _HTTP.open(f"http://{self._address}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with _HTTP.open(f"http://{self._address}/api/v1/{what}?{query}") as answer:
            whole = json.load(answer)
        assert whole["status"] == "success", whole
        return whole["data"]
