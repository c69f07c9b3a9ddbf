"""The options as one table: what the reader of the configuration and the reference page go by."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from notifyd.core.options import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifyd.core.kinds import Kind


class Option(NamedTuple):
    """One line of the table, as the reader and the reference page want it."""

    section: str
    name: str
    type: Any
    default: Any
    unit: str
    meaning: str
    kind: Kind
    secret: bool
    reload: bool

    @property
    def key(self) -> str:
        """The option's full name, `section.name`; a credential has it as its name."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets the option."""
        return f"NOTIFYD_{self.section}_{self.name}".upper()

    def of(self, config: Config) -> Any:
        """Return the option's value in `config`."""
        return getattr(getattr(config, self.section), self.name)


SECTIONS: Mapping[str, type[Any]] = {
    name: hint
    for name, hint in get_type_hints(Config, localns={"Mapping": dict}).items()
    if dataclasses.is_dataclass(hint) and isinstance(hint, type)
}

OPTIONS: Mapping[str, Option] = {
    f"{section}.{each.name}": Option(
        section, each.name, get_type_hints(kind)[each.name], each.default, **each.metadata
    )
    for section, kind in SECTIONS.items()
    for each in dataclasses.fields(kind)
}
