"""How an option is declared: a field of a dataclass that says what the option is."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from notifyd.core.kinds import Kind

T = TypeVar("T")


def option(
    default: T, unit: str, meaning: str, kind: Kind, *, secret: bool = False, reload: bool = False
) -> T:
    """Declare an option.

    A secret may come from a file or a credential and is never shown. What a `reload` changes takes
    effect while the daemon runs; the others need a restart.
    """
    metadata = {
        "unit": unit,
        "meaning": meaning,
        "kind": kind,
        "secret": secret,
        "reload": reload,
    }
    # A secret stays out of repr() too: tracebacks and debug output show those.
    declared: Any = field(default=default, repr=not secret, metadata=metadata)
    return declared  # type: ignore[no-any-return]
