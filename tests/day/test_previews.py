"""The previews in the documentation."""

from __future__ import annotations

import re

from boards import ROOT
from day.panels import rows
from day.pictures import name, words

FOLDER = ROOT / "docs" / "images" / "dashboard"
PAGE = ROOT / "docs" / "how-to" / "monitor.md"
LINK = re.compile(r"!\[[^\]]*[Pp]review[^\]]*\]\((?:\.\./|docs/)images/dashboard/([a-z-]+\.png)\)")


def test_every_row() -> None:
    """There is a preview of every row, and of nothing else."""
    assert {path.name for path in FOLDER.iterdir()} == {name(row) for row in rows()}


def test_small() -> None:
    """They are small enough for a repository."""
    assert max(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


def test_page() -> None:
    """The page about monitoring shows all of them, in the order of the dashboard, as previews."""
    assert LINK.findall(PAGE.read_text()) == [name(row) for row in rows()]


def test_readme() -> None:
    """The README shows some, as previews."""
    assert LINK.findall((ROOT / "README.md").read_text())


def test_words() -> None:
    """Values are written as Grafana writes them, by the names of its units."""
    values = {
        ("s", 0.0025): "2.5 ms",
        ("s", 90): "1.5 min",
        ("percentunit", 0.125): "12.5 %",
        ("bool_yes_no", 1): "yes",
        ("bytes", 3 << 20): "3 MiB",
        ("short", 1500): "1.5k",
        ("cps", 0): "0",
        ("dtdurations", 30): "30 s",
        ("Bps", 2e6): "2 MB/s",
    }
    assert {(unit, value): words(value, unit) for unit, value in values} == values
