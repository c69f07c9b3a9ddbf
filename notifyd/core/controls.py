"""Control entries: what the site tells the daemons, and no browser gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Order:
    """What a control entry asks for; users and groups are named by their primary keys as text.

    `recheck_*`: read anew what these users, the members of these groups, or all may see.
    `disconnect` and `reauthenticate`: close the connections of these users, for good or until
    they have a new token.
    """

    recheck_users: frozenset[str] = NOBODY
    recheck_groups: frozenset[str] = NOBODY
    recheck_all: bool = False
    disconnect: frozenset[str] = NOBODY
    reauthenticate: frozenset[str] = NOBODY


EVERYBODY: Final = Order(recheck_all=True)
"""The strictest reading of an order that can't be read: nobody keeps what they may not see."""


def parse_order(body: Mapping[str, Any]) -> Order:
    """Read a control entry; keys it doesn't know are a newer site's, and are ignored.

    Raises ValueError, whose text quotes nothing, for one that is not formed as it must be.
    """
    recheck = body.get("recheck", {})
    if not isinstance(recheck, dict):
        raise ValueError("recheck must be an object")  # noqa: TRY004 - a fault of the data
    everybody = recheck.get("all", False)
    if not isinstance(everybody, bool):
        raise ValueError("recheck's all must be true")  # noqa: TRY004 - a fault of the data
    return Order(
        recheck_users=_keys(recheck, "users"),
        recheck_groups=_keys(recheck, "groups"),
        recheck_all=everybody,
        disconnect=_users(body, "disconnect"),
        reauthenticate=_users(body, "reauthenticate"),
    )


def _users(body: Mapping[str, Any], name: str) -> frozenset[str]:
    part = body.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - a fault of the data
    return _keys(part, "users")


def _keys(part: Mapping[str, Any], name: str) -> frozenset[str]:
    # By type and not by isinstance: a bool is an int, but no primary key.
    keys = part.get(name, [])
    if not isinstance(keys, list) or not all(type(key) in {int, str} for key in keys):
        raise ValueError(f"{name} must be a list of primary keys")
    return frozenset(map(str, keys))
