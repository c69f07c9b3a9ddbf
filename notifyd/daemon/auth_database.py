"""The site's database as the daemon's threads use it: the primary, and no endless waiting."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import Error, close_old_connections, connections, reset_queries, router
from django.db.backends.signals import connection_created

from notifyd.daemon.auth_rights import permission_fault, remedy

if TYPE_CHECKING:
    from collections.abc import Iterator


class PrimaryRouter:
    """Sends the reads of this process where the writes go.

    A replica lags behind: what it still grants may be revoked already.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the alias of the database that the model is written to."""
        return str(router.db_for_write(model, **hints))


class Patience:
    """How long this process waits for a database, `seconds` for a connection or a statement.

    A thread can't be told to stop waiting, so it must be the database, its library or the kernel
    that gives up. What the site has set itself stays, but for PostgreSQL's statement_timeout.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        whole = max(math.ceil(seconds), 1)
        # PostgreSQL's names are libpq's (section "Database Connection Control Functions"). The
        # last three notice a peer that has vanished without a word.
        defaults = {
            "postgresql": {
                "connect_timeout": whole,
                "keepalives_idle": whole,
                "keepalives_interval": whole,
                "tcp_user_timeout": whole * 1000,
            },
            "mysql": {"connect_timeout": whole},
        }
        for connection in connections.all():
            options = connection.settings_dict["OPTIONS"]
            for name, value in defaults.get(connection.vendor, {}).items():
                options.setdefault(name, value)
            # A connection for every login would cost more than the login. One that outlived a
            # restart of its database would cost a client its login, if nobody looked first.
            connection.settings_dict["CONN_MAX_AGE"] = None
            connection.settings_dict["CONN_HEALTH_CHECKS"] = True
        connection_created.connect(self._bound_statements)

    def end(self) -> None:
        """Leave new connections alone from now on."""
        connection_created.disconnect(self._bound_statements)

    def _bound_statements(self, connection: Any, **_: object) -> None:
        if connection.vendor == "postgresql":
            milliseconds = str(math.ceil(self._seconds * 1000))
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])


def refresh_connections() -> None:
    """Do for a thread what Django does before and after each request."""
    close_old_connections()
    # With DEBUG on, each connection keeps the text of its queries.
    reset_queries()


def close_connections() -> None:
    """Close the connections of this thread, whatever state they are in."""
    with suppress(Error):
        connections.close_all()


def describe(error: Exception, *secrets: str) -> str:
    """Return the kind of an error and its first line, without passwords and these secrets.

    What to do follows if that is known.
    """
    # What follows the first line quotes values of the row, or of the query.
    text = str(error).strip().partition("\n")[0]
    for secret in (*secrets, *_passwords()):
        text = text.replace(secret, "***")
    words = f"{type(error).__name__}: {text[:300]}".removesuffix(": ")
    advice = remedy(error)
    return f"{words}; {advice}" if advice else words


def _passwords() -> Iterator[str]:
    for database in connections.settings.values():
        options = {**database["OPTIONS"], "password": database["PASSWORD"]}
        for name, value in options.items():
            if "pass" in name.lower() and isinstance(value, str) and value:
                yield value


def database_fault(patience: float = 5.0) -> str | None:
    """Return why the site's users and what they may see can't be read, None if they can.

    It waits `patience` seconds at most for each connection and query.
    """
    bounds = Patience(patience)
    try:
        return permission_fault()
    except Error as error:
        return describe(error)
    finally:
        bounds.end()
        close_connections()
