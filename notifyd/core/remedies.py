"""What to do when the site's files or tables are closed to the daemon, in sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# What ProtectHome= hides (systemd.exec(5)).
_HOMES: Final = ("/home", "/root", "/run/user")
_DROP_INS: Final = "/etc/systemd/system/notifyd.service.d"
_APPLY: Final = "then `systemctl daemon-reload` and `systemctl restart notifyd`"
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
# PostgreSQL's words, and MySQL's.
_DENIED: Final = re.compile(
    r"permission denied for (?:table|relation|view) \"?(?P<table>\w+)"
    r"|command denied to user (?P<role>'[^']*'@'[^']*') for table [`']?(?:\w+[`']?\.[`']?)?"
    r"(?P<same>\w+)"
)


def closed(obstacle: str, user: str) -> str:
    """Return what to do about a place that `user` may not enter or read."""
    if obstacle in _HOMES:
        return (
            f"{obstacle} is hidden by notifyd's unit: put [Service] and ProtectHome=read-only into"
            f" {_DROP_INS}/site-in-home.conf, {_APPLY}"
        )
    return f"{obstacle} is closed to the user {user}: setfacl -m u:{user}:rx {obstacle}"


def sqlite(folder: str, user: str) -> str:
    """Return what to do about a SQLite database whose folder `user` may not write to."""
    return (
        f"SQLite has to write beside its file: put [Service] and ReadWritePaths={folder} into"
        f" {_DROP_INS}/site-on-sqlite.conf, {_APPLY}; and let the user {user} write there:"
        f" setfacl -R -m u:{user}:rwX {folder}"
    )


def denied(message: str) -> tuple[str, str] | None:
    """Return the table that a database's error is about, and the role if it names one.

    None: the error is about something else than a missing right.
    """
    found = _DENIED.search(message)
    if found is None:
        return None
    return found["table"] or found["same"], found["role"] or ""


def grant(tables: Iterable[str], role: str, *, writing: str = "") -> str:
    """Return what to do about missing rights; `writing` is the table whose last_login is saved."""
    # MySQL's are quoted already.
    whom = role if _PLAIN.fullmatch(role) or role.startswith("'") else f'"{role}"'
    names = {each: each if _PLAIN.fullmatch(each) else f'"{each}"' for each in tables}
    statements = [f"GRANT SELECT ON {name} TO {whom};" for name in names.values()]
    if writing in names:
        statements.append(f"GRANT UPDATE (last_login) ON {names[writing]} TO {whom};")
    return f"as the owner of the tables: {' '.join(statements)}"
