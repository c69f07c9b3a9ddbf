"""Values of options as text: read strictly by type, written as TOML, quoted in sentences."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from notifyd.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Longer values are cut where a fault quotes them.
_QUOTED = 100
# Digits are grouped from here on.
_GROUPED = 10_000
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse(kind: Any, text: str) -> Any:
    """Turn text, as from the environment, into what TOML would have given for it.

    Text that stands for no value of that kind stays text; `read` then refuses it.
    """
    if kind is str:
        return text
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if kind in {int, float}:
        try:
            return kind(text)
        except ValueError:
            return text
    return [item for item in map(str.strip, text.split(",")) if item]


def read(kind: Any, raw: Any) -> Any:
    """Return `raw` as a value of type `kind`. Raises ValueError saying what to write instead."""
    return _READERS[kind](raw)


def _read_bool(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("is neither true nor false; write one of them, without quotes")  # noqa: TRY004 - as all faults of values.
    return raw


def _read_int(raw: Any) -> int:
    # type() instead of isinstance(): true is no number.
    if type(raw) is not int:
        raise ValueError("is no whole number; write one, without quotes")
    return raw


def _read_float(raw: Any) -> float:
    if type(raw) not in {int, float}:
        raise ValueError("is no number; write one, without quotes")
    try:
        value = float(raw)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("is not finite; write a number")
    return value


def _read_str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError('is no text; write it in quotes: "..."')  # noqa: TRY004 - as all faults of values.
    if not raw.isprintable():
        raise ValueError("has characters that cannot be printed; leave them out")
    return raw


def _read_strs(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise ValueError('is no list of texts; write ["...", "..."]')
    return tuple(_read_str(item) for item in raw)


_READERS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
    tuple[str, ...]: _read_strs,
}


def literal(value: Any) -> str:
    """Write a value as TOML; one that no option can hold, such as a table, in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML wants DEL escaped, too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int):
        return f"{value:_}" if value >= _GROUPED else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return f"a {type(value).__name__}"


def quote(value: Any) -> str:
    """Show a value in a fault: on one line, not too long, no password even if one slipped in."""
    if isinstance(value, list | tuple):
        shown = f"[{', '.join(map(quote, value))}]"
    else:
        shown = line(literal(redact(value) if isinstance(value, str) else value))
    return shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}..."


def line(text: str) -> str:
    """Replace what could break a line or a terminal by question marks."""
    return "".join(c if c.isprintable() else "?" for c in text)
