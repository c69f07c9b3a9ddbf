"""The configuration: read from a file, the environment, credentials and defaults, and checked.

An option is taken from the first of these that has it: the environment (NOTIFYD_SECTION_NAME, or
NOTIFYD_SECTION_NAME_FILE for a secret), a systemd credential (secrets only), the file, the default.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from notifyd.core.addresses import Address, parse_address
from notifyd.core.conflicts import CAUTIONS, RULES, apply
from notifyd.core.literals import line, literal, parse, quote, read
from notifyd.core.option_table import OPTIONS, SECTIONS, Option
from notifyd.core.options import (
    Admin,
    Auth,
    Config,
    Control,
    Django,
    Log,
    Redis,
    Server,
)
from notifyd.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "DEFAULT_PATH",
    "Address",
    "Admin",
    "Auth",
    "Config",
    "ConfigError",
    "Control",
    "Django",
    "Log",
    "Redis",
    "Server",
    "load",
    "parse_address",
    "render",
]

DEFAULT_PATH = "/etc/notifyd/notifyd.toml"
_ENVIRONMENT = "environment"

# What the file and the environment may name: the option, and whether its value is the name of a
# file that holds a secret.
_KEYS = {key: (key, False) for key in OPTIONS} | {
    f"{key}_file": (key, True) for key, option in OPTIONS.items() if option.secret
}
_VARIABLES = {option.variable: (key, False) for key, option in OPTIONS.items()} | {
    f"{option.variable}_FILE": (key, True) for key, option in OPTIONS.items() if option.secret
}


class ConfigError(Exception):
    """The configuration can't be used.

    `faults` are sentences that say what to do, never empty; `rest` is the configuration with the
    default wherever there is a fault, and for what can't be read at all.
    """

    def __init__(self, faults: list[str], rest: Config | None = None) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.rest = rest or Config()


class _Found(NamedTuple):
    """What was found for an option, and where. `file`: it is the name of a file with the value."""

    raw: Any
    source: str
    file: bool


@dataclass(slots=True)
class _Findings:
    """What is wrong or odd, collected until the whole configuration was looked at.

    `unclear` are the options whose value is not known because of a fault: a rule about several
    options says nothing about those.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unclear: set[str] = field(default_factory=set)


def load(
    path: str | None, environ: Mapping[str, str], *, default_path: str = DEFAULT_PATH
) -> tuple[Config, list[str]]:
    """Read and check the configuration; the second value is warnings to log.

    Without `path` the file at `default_path` is read if it exists. Raises ConfigError with all
    faults at once.
    """
    findings = _Findings()
    found = (
        _from_file(path, default_path, findings)
        | _from_credentials(environ)
        | _from_environment(environ, findings)
    )
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, each in found.items():
        option = OPTIONS[key]
        try:
            values[option.section][option.name] = _value(option, each)
        except ValueError as error:
            shown = "***" if option.secret else quote(each.raw)
            findings.faults.append(f"{key} = {shown} ({each.source}) {error}.")
            findings.unclear.add(key)
    config = Config(
        **{section: kind(**values[section]) for section, kind in SECTIONS.items()},
        sources={key: each.source for key, each in found.items()},
    )
    findings.faults += apply(RULES, config, findings.unclear)
    findings.warnings += apply(CAUTIONS, config, findings.unclear)
    if findings.faults:
        raise ConfigError(findings.faults, config)
    return config, findings.warnings


def render(config: Config) -> str:
    """Write the configuration as TOML that `load` reads, each option with where it came from.

    Passwords are masked: `***`.
    """
    lines = []
    for option in OPTIONS.values():
        if f"[{option.section}]" not in lines:
            lines += ["", f"[{option.section}]"]
        value = option.of(config)
        shown = literal(redact(value, option.name) if option.secret and value else value)
        lines.append(f"{option.name} = {shown}  # {config.sources.get(option.key, 'default')}")
    return "\n".join(lines[1:]) + "\n"


def _from_file(path: str | None, default_path: str, findings: _Findings) -> dict[str, _Found]:
    name = path or default_path
    try:
        document = tomllib.loads(Path(name).read_text("utf-8"))
    except FileNotFoundError:
        if path is None:
            return {}
        fault = "does not exist; create it or correct --config"
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        fault = "is not UTF-8; save it in that encoding"
    except ValueError as error:
        fault = f"is not TOML: {error}; correct that place"
    else:
        return _pick(_flatten(document, findings), f"file {line(name)}", findings)
    findings.faults.append(f"The file {line(name)} {fault}.")
    findings.unclear.update(OPTIONS)
    return {}


def _flatten(document: Mapping[str, Any], findings: _Findings) -> dict[str, Any]:
    """Turn the file's tables into full names; what is in no table keeps its short one."""
    given: dict[str, Any] = {}
    for section, table in document.items():
        if isinstance(table, dict):
            given |= {f"{section}.{name}": value for name, value in table.items()}
        elif section in SECTIONS:
            findings.faults.append(f"{section} is no table; begin it with one line [{section}].")
            findings.unclear.update(OPTIONS)
        else:
            given[section] = table
    return given


def _from_credentials(environ: Mapping[str, str]) -> dict[str, _Found]:
    """Look for secrets where systemd puts them (systemd.exec(5), section Credentials)."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    return {
        key: _Found(str(Path(directory, key)), f"credential {key}", file=True)
        for key, option in OPTIONS.items()
        # access() answers no where Path.exists() raises: in a directory that is somebody else's.
        if option.secret and directory and os.access(Path(directory, key), os.F_OK)
    }


def _from_environment(environ: Mapping[str, str], findings: _Findings) -> dict[str, _Found]:
    given = {name: value for name, value in environ.items() if name.startswith("NOTIFYD_")}
    return _pick(given, _ENVIRONMENT, findings)


def _pick(given: Mapping[str, Any], origin: str, findings: _Findings) -> dict[str, _Found]:
    """Keep what is an option, and warn of the rest: it may be a slip, or a newer version's."""
    environment = origin == _ENVIRONMENT
    known = _VARIABLES if environment else _KEYS
    found: dict[str, _Found] = {}
    for name, raw in given.items():
        if name not in known:
            near = _nearest(name, known)
            findings.warnings.append(f"{line(name)} ({origin}) is no option and ignored{near}.")
            continue
        key, file = known[name]
        if key in found:
            findings.faults.append(f"{key} ({origin}) is set directly and by a file; keep one.")
        source = f"{origin} {name}" if environment else f"{origin}, {name}" if file else origin
        if environment and not file:
            raw = parse(OPTIONS[key].type, raw)  # noqa: PLW2901 - what TOML would have given.
        found[key] = _Found(raw, source, file=file)
    return found


def _nearest(name: str, known: Collection[str]) -> str:
    # The right name in the wrong section, or in none, is nearer than any other spelling.
    same = [each for each in known if each.endswith(f".{name.rpartition('.')[2]}")]
    near = difflib.get_close_matches(name, same or known, n=1, cutoff=0.0 if same else 0.6)
    return f"; the nearest one is {near[0]}" if near else ""


def _value(option: Option, found: _Found) -> Any:
    """Turn what was found into the option's value. Raises ValueError saying what is wrong."""
    raw = parse(option.type, _read_secret(found.raw)) if found.file else found.raw
    value = read(option.type, raw)
    if not isinstance(value, tuple):
        option.kind.check(value)
        return value
    slips = []
    for item in value:
        try:
            option.kind.check(item)
        except ValueError as error:
            slips.append(f"{quote(item)}, which {error}")
    if slips:
        raise ValueError(f"holds {'. It also holds '.join(slips)}")
    return value


def _read_secret(name: Any) -> str:
    if not isinstance(name, str) or not name.startswith("/"):
        raise ValueError("names no file; write its whole path, beginning with /")
    try:
        text = Path(name).read_text("utf-8").strip()
    except OSError as error:
        raise ValueError(f"is in {quote(name)}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"is in {quote(name)}, which is not UTF-8") from None
    if not text:
        raise ValueError(f"is in {quote(name)}, which is empty; put the value there")
    return text
