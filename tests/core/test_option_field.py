from __future__ import annotations

from dataclasses import dataclass, fields

from notifyd.core import kinds
from notifyd.core.option_field import option


@dataclass
class Section:
    """Two options."""

    open: int = option(5, "s", "How long.", kinds.SECONDS)
    hidden: str = option("", "", "A password.", kinds.WORD, secret=True)


def test_an_option_says_what_it_is() -> None:
    """A field carries its unit, its meaning and what it may hold beside its default."""
    metadata = fields(Section)[0].metadata
    assert Section().open == 5
    assert (metadata["unit"], metadata["meaning"]) == ("s", "How long.")
    assert metadata["kind"] is kinds.SECONDS


def test_a_secret_stays_out_of_sight() -> None:
    """The representation of a section has no secret."""
    assert repr(Section(hidden="abc")).endswith("Section(open=5)")
