"""The manual pages, in the language of man(7): notifyd(8) and notifyd.toml(5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from docs.command_table import command_table
from notifyd.cli import build_parser
from notifyd.core.literals import literal
from notifyd.core.option_table import OPTIONS, SECTIONS, Option
from notifyd.daemon.config import DEFAULT_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A page has no date: it would be another one each time, and the package goes by its release.
_HEAD: Final = """\
.\\" Made by docs/generate.py from {source}; edit that instead.
.TH {name} {section} "" notifyd "{title}"
"""

_FILES: Final = (
    (DEFAULT_PATH, "The configuration, see notifyd.toml(5)."),
    ("/etc/notifyd/NAME.toml", "The same for the instance notifyd@NAME."),
    (
        "/etc/default/notifyd",
        (
            "The environment of the service: DJANGO_SETTINGS_MODULE, any option, and what the"
            " site's settings ask for. Only root may read it."
        ),
    ),
    ("/run/notifyd/control", "The control socket, by which the other commands reach the daemon."),
)

_STATUSES: Final = (
    ("0", "Success."),
    ("1", "Failure; the last line says what to do."),
    ("2", "A wrong command line."),
    ("78", "A bad configuration. systemd does not try again; run `notifyd check`."),
)

_SERVICE: Final = (
    (
        "systemd runs notifyd as `notifyd.service`. It holds the sockets itself, `notifyd.socket`"
        " for browsers and `notifyd-admin.socket` for metrics and health checks."
    ),
    (
        "`systemctl restart notifyd` disconnects nobody: the next process takes the connections"
        " over. So does an upgrade. `systemctl stop notifyd` closes them, and the sockets."
        " `systemctl reload notifyd` reads the configuration anew and fails, with the reason, if it"
        " has a fault."
    ),
    (
        "Several sites, or several processes for one, are instances: `notifyd@NAME.service` and"
        " `notifyd@NAME.socket`."
    ),
    (
        "`journalctl -u notifyd` shows the log. Its lines have fields, as in `journalctl -u notifyd"
        " NOTIFYD_EVENT=auth.failed`."
    ),
)

_SOURCES: Final = (
    (
        "1.",
        (
            "The environment variable NOTIFYD_SECTION_NAME, for example NOTIFYD_SERVER_LISTEN."
            " Lists have commas. For a secret, NOTIFYD_SECTION_NAME_FILE may name a file that holds"
            " it."
        ),
    ),
    (
        "2.",
        (
            "For a secret, the systemd credential `section.name`, for example"
            " `LoadCredential=redis.url:/etc/notifyd/redis.url` in the unit."
        ),
    ),
    ("3.", "The file. For a secret, the key `name_file` may name a file that holds it."),
    ("4.", "The default."),
)


def daemon_page() -> str:
    """Return notifyd(8), the program and the service."""
    parser = build_parser()
    parts = [
        _head("notifyd/cli.py", "NOTIFYD", 8, "System Administration"),
        _section("NAME", [r"notifyd \- live notifications for a Django site"]),
        _section("SYNOPSIS", [_text("`notifyd` COMMAND [options]")]),
        _section(
            "DESCRIPTION",
            _paragraphs(
                "notifyd runs beside a Django site and holds the WebSockets of its visitors'"
                " browsers. Django writes events to Redis; notifyd passes each one on to those"
                " whom Django's own permissions let see it.",
                str(parser.epilog).partition(" Exit codes:")[0],
            ),
        ),
        ".SH COMMANDS\n",
    ]
    for command in command_table(parser):
        parts.append(f".SS {_text(command.usage)}\n{_text(command.description)}\n")
        parts += _entries(command.arguments)
    parts += [
        _section("SERVICE", _paragraphs(*_SERVICE)),
        _section("FILES", _entries(_FILES)),
        _section("EXIT STATUS", _entries(_STATUSES)),
        _section("SEE ALSO", [_text("notifyd.toml(5), systemctl(1), journalctl(1)")]),
    ]
    return "".join(parts)


def configuration_page() -> str:
    """Return notifyd.toml(5), the configuration."""
    parts = [
        _head("notifyd/core/options.py", "NOTIFYD.TOML", 5, "File Formats"),
        _section("NAME", [r"notifyd.toml \- the configuration of notifyd"]),
        _section("SYNOPSIS", [_text(f"{DEFAULT_PATH}, /etc/notifyd/NAME.toml")]),
        _section(
            "DESCRIPTION",
            _paragraphs(
                "The file is TOML. Without it every option has its default. `notifyd check` tries"
                " it, and `notifyd config` prints what is in effect and where each value came"
                " from.",
                "An option is taken from the first of these that has it:",
            ),
        ),
        *_entries(_SOURCES),
        ".PP\n",
        _text(
            "A name that is no option is ignored with a warning. Any other fault keeps the daemon"
            " from starting; all faults are told at once."
        ),
        "\n",
    ]
    for section, kind in SECTIONS.items():
        options = [option for option in OPTIONS.values() if option.section == section]
        parts.append(_section(f"[{section}]", [_text(str(kind.__doc__))]))
        parts += _entries((_assignment(option), _meaning(option)) for option in options)
    parts.append(_section("SEE ALSO", [_text("notifyd(8), systemd.exec(5)")]))
    return "".join(parts)


def _assignment(option: Option) -> str:
    return f"{option.name} = {literal(option.default)}"


def _meaning(option: Option) -> str:
    unit = f" Unit: {option.unit}." if option.unit else ""
    secret = " A secret." if option.secret else ""
    return f"{option.meaning}{secret} Allowed: {option.kind.words}.{unit}"


def _head(source: str, name: str, section: int, title: str) -> str:
    return _HEAD.format(source=source, name=name, section=section, title=title)


def _section(name: str, parts: Iterable[str]) -> str:
    return f".SH {_text(name)}\n" + "".join(f"{part.removesuffix(chr(10))}\n" for part in parts)


def _paragraphs(*texts: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f".PP\n{_text(text)}" if number else _text(text)


def _entries(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each term in bold with what it means, indented."""
    for term, meaning in pairs:
        yield f".TP\n\\fB{_text(term)}\\fR\n{_text(meaning)}\n"


def _text(text: str) -> str:
    """Write what is between backquotes in bold, and keep all else from being taken for commands."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("^", r"\(ha")
    escaped = re.sub(r"^(?=[.'])", r"\\&", escaped.replace("~", r"\(ti"))
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
