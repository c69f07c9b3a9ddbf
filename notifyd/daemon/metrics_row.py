"""What a row of the table of metrics has."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Metric(NamedTuple):
    """A metric without its prefix; `values` are those its label has from the start."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    unit: str
    values: tuple[str, ...] = ()


def label_text(value: object) -> str:
    """Return a label's value as it is shown; an enumeration's is its own."""
    return str(value.value if isinstance(value, enum.Enum) else value)


def label_values(known: Iterable[object]) -> tuple[str, ...]:
    """Return the values of a label as they are shown."""
    return tuple(map(label_text, known))
