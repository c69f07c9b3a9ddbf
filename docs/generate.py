"""Write the reference pages and the sample configuration from the tables in the code.

`python docs/generate.py` writes them; with `--check` it names those that are out of date and
exits 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from docs.command_table import Command, command_table
from docs.django_tables import check_rows, setting_rows
from docs.man import configuration_page, daemon_page
from docs.texts import CODE_PAGE, CONFIGURATION, ELSEWHERE, LOG_PAGE, METRIC_PAGE, RECONNECT, SAMPLE
from docs.units import instance_unit
from notifyd.cli import build_parser
from notifyd.core.levels import LIBRARIES
from notifyd.core.literals import literal
from notifyd.core.option_table import OPTIONS, SECTIONS, Option
from notifyd.core.protocol import CloseCode, Reconnect
from notifyd.core.records import EVENTS, LogEvent
from notifyd.daemon.metrics import BUCKETS, PREFIX
from notifyd.daemon.metrics_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 88

NOTICE = "<!-- Made by docs/generate.py from {}; edit that instead. -->\n"

# A table in a page that is otherwise written by hand, between two comments.
TABLE = re.compile(r"^(<!-- (\w+): made .* -->\n)(?:.*\n)*?(<!-- end of \2 -->\n)", re.MULTILINE)


def configuration() -> str:
    """Return the page of options."""
    parts = [_notice("notifyd/core/options.py"), CONFIGURATION]
    for section, kind in SECTIONS.items():
        rows = [
            (
                f"`{option.name}`",
                f"`{literal(option.default)}`",
                option.unit,
                option.kind.words,
                "reload" if option.reload else "restart",
                option.meaning + (" A secret." if option.secret else ""),
            )
            for option in _options(section)
        ]
        heading = ("Option", "Default", "Unit", "Allowed", "Takes", "Meaning")
        parts.append(f"## [{section}]\n\n{kind.__doc__}\n\n{_table(heading, rows)}")
    return "\n".join(parts)


def metrics() -> str:
    """Return the page of metrics."""
    rows = [
        (
            f"`{PREFIX}{metric.name}`",
            metric.kind,
            _labels(metric.labels, metric.values),
            metric.unit,
            metric.help,
        )
        for metric in METRICS
    ]
    page = METRIC_PAGE.format(buckets=", ".join(f"{bound:g}" for bound in BUCKETS))
    table = _table(("Metric", "Kind", "Labels", "Unit", "Meaning"), rows)
    return "\n".join([_notice("notifyd/daemon/metrics.py"), page, table])


def log_events() -> str:
    """Return the page of log events."""
    rows = [
        (
            f"`{name}`",
            event.level,
            _alike(event),
            ", ".join(f"`{field}`" for field in event.fields),
            event.meaning,
            event.action,
        )
        for name, event in EVENTS.items()
    ]
    ids = [(f"`{name}`", f"`{event.id}`") for name, event in EVENTS.items() if event.id]
    page = LOG_PAGE.format(
        fold=OPTIONS["log.fold"].default,
        libraries=", ".join(f"`{name}`" for name in LIBRARIES),
        example=EVENTS["service.failed"].id,
        ids=_table(("Event", "MESSAGE_ID"), ids),
    )
    table = _table(("Event", "Level", "Alike by", "Fields", "Meaning", "What to do"), rows)
    return "\n".join([_notice("notifyd/core/records.py"), page + table])


def _alike(event: LogEvent) -> str:
    if event.alike is None:
        return ""
    return ", ".join(f"`{field}`" for field in event.alike) or "the event"


def close_codes() -> str:
    """Return the page of close codes."""
    rules = "".join(f"| {rule} | {RECONNECT[rule]} |\n" for rule in Reconnect)
    rows = [
        (str(code.value), f"`{code.reason}`" if code.reason else "", code.reconnect, code.meaning)
        for code in CloseCode
    ]
    table = _table(("Code", "Reason", "Reconnect", "Meaning"), rows)
    return "\n".join([_notice("notifyd/core/protocol.py"), CODE_PAGE + rules, table])


def commands() -> str:
    """Return the page of commands."""
    parser = build_parser()
    parts = [_notice("notifyd/cli.py"), f"# Commands\n\n{parser.description} {parser.epilog}\n"]
    return "\n".join([*parts, *map(_command, command_table(parser))])


def _command(command: Command) -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in command.arguments]
    synopsis = f"```console\n$ {command.usage}\n```"
    table = _table(("Argument", "Meaning"), rows)
    return f"## {command.name}\n\n{command.description}\n\n{synopsis}\n\n{table}"


def django_app() -> str:
    """Return the page of the app, which is written by hand but for the tables in it."""
    tables = {
        "settings": _table(("Key", "Default", "Allowed", "Meaning"), setting_rows()),
        "checks": _table(("Id", "Level", "Message, for example", "Hint"), check_rows()),
    }
    page = (ROOT / "docs/reference/django.md").read_text("utf-8")
    return TABLE.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n{match[3]}", page)


def sample() -> str:
    """Return the sample configuration: all options, commented out at their defaults."""
    lines = _comment(SAMPLE)
    for section, kind in SECTIONS.items():
        lines += ["", *_comment(str(kind.__doc__)), f"[{section}]"]
        for option in _options(section):
            allowed = f"Allowed: {option.kind.words}.".replace("`", "")
            unit = f" Unit: {option.unit}." if option.unit else ""
            takes = " A reload suffices." if option.reload else ""
            lines += ["", *_comment(option.meaning), *_comment(f"{allowed}{unit}{takes}")]
            lines.append(f"#{option.name} = {literal(option.default)}")
            if option.secret:
                lines += ["", *_comment(ELSEWHERE.format(option.key))]
                lines.append(f'#{option.name}_file = "/etc/notifyd/{option.key}"')
    return "\n".join(lines) + "\n"


def _options(section: str) -> Iterator[Option]:
    return (option for option in OPTIONS.values() if option.section == section)


def _labels(labels: Sequence[str], values: Sequence[str]) -> str:
    names = ", ".join(f"`{label}`" for label in labels)
    return f"{names}: {', '.join(values)}" if values else names


def _notice(source: str) -> str:
    return NOTICE.format(source)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"|{''.join(map(_cell, line))}\n" for line in lines)


def _cell(text: str) -> str:
    escaped = text.replace("|", r"\|")
    return f" {escaped} |" if text else " |"


FILES: Mapping[str, Callable[[], str]] = {
    "docs/reference/close-codes.md": close_codes,
    "docs/reference/commands.md": commands,
    "docs/reference/configuration.md": configuration,
    "docs/reference/django.md": django_app,
    "docs/reference/log-events.md": log_events,
    "docs/reference/metrics.md": metrics,
    "packaging/man/notifyd.8": daemon_page,
    "packaging/man/notifyd.toml.5": configuration_page,
    "packaging/notifyd.toml": sample,
    "packaging/systemd/notifyd@.service": instance_unit,
}


def stale(root: Path = ROOT) -> list[str]:
    """Return the files that are missing or don't say what the code says."""
    paths = {name: root / name for name in FILES}
    return [
        name
        for name, make in FILES.items()
        if not paths[name].is_file() or paths[name].read_text("utf-8") != make()
    ]


def write(root: Path = ROOT) -> None:
    """Write all files anew."""
    for name, make in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write or compare the files, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only name what is out of date")
    if not parser.parse_args(argv).check:
        write()
        return 0
    names = stale()
    for name in names:
        sys.stderr.write(f"{name} is out of date; run: make docs\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
