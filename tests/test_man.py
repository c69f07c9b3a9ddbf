"""The manual pages: complete, and nothing in them is taken for a command of man(7)."""

from __future__ import annotations

import re

import pytest
from daemons import ROOT

from notifyd.cli import build_parser
from notifyd.core.option_table import OPTIONS, SECTIONS

DAEMON = (ROOT / "packaging" / "man" / "notifyd.8").read_text()
CONFIGURATION = (ROOT / "packaging" / "man" / "notifyd.toml.5").read_text()


def test_every_command() -> None:
    """notifyd(8) has each command that the program's own help names."""
    commands = re.findall(r"^    ([a-z]+) ", build_parser().format_help(), re.MULTILINE)
    assert "run" in commands
    assert re.findall(r"^\.SS notifyd ([a-z]+)", DAEMON, re.MULTILINE) == commands


def test_every_option() -> None:
    """notifyd.toml(5) has each section and each option, in the order of the configuration."""
    found = re.findall(r"^\.SH \[([a-z]+)\]$|^\\fB([a-z_]+) = ", CONFIGURATION, re.MULTILINE)
    sections = {
        section: [option.name for option in OPTIONS.values() if option.section == section]
        for section in SECTIONS
    }
    assert [section or option for section, option in found] == [
        each for section, options in sections.items() for each in (section, *options)
    ]


@pytest.mark.parametrize("page", [DAEMON, CONFIGURATION], ids=["notifyd.8", "notifyd.toml.5"])
def test_only_our_macros(page: str) -> None:
    """A line begins with a command only where one is meant, and every hyphen can be copied."""
    commands = re.findall(r"^[.'](\S*)", page, re.MULTILINE)
    assert {*commands} == {"PP", "SH", "SS", "TH", "TP", '\\"'} & {*commands}
    text = "\n".join(line for line in page.splitlines() if not line.startswith('.\\"'))
    assert re.findall(r".(?<!\\)-", text) == []
