"""A database's address as a URL, and what Django's DATABASES makes of it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_ENGINES: Final = {
    "mysql": "django.db.backends.mysql",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}
_HINT: Final = (
    "cannot be read; write postgresql://USER:PASSWORD@HOST/NAME and percent-encode / ? # @ : and"
    " blanks in passwords"
)


def parse_database(text: str) -> dict[str, Any]:
    """Return the address as one entry of DATABASES.

    `postgresql://` and `mysql://USER:PASSWORD@HOST:PORT/NAME`: without a host the server is reached
    by the Unix socket that its library knows; `?host=/directory` names another, as for libpq. What
    else is behind the question mark are options of the library. `sqlite:///absolute/path` is a
    file. Raises ValueError with a text that completes "NAME = VALUE ..." and repeats nothing of the
    address, which may hold a password.
    """
    scheme = text.partition("://")[0].lower()
    if "://" not in text or scheme not in _ENGINES:
        raise ValueError("has another scheme; write postgresql://, mysql:// or sqlite:///path")
    # urllib's own errors repeat the port, which is part of a password with an unencoded slash.
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(_HINT) from None
    if url.fragment or " " in text:
        raise ValueError(_HINT)
    if scheme == "sqlite":
        return _file(url)
    name = url.path.removeprefix("/")
    # The end of a password, probably.
    if "/" in name or "@" in name:
        raise ValueError(_HINT)
    if not name:
        raise ValueError("names no database; write postgresql://USER:PASSWORD@HOST/NAME")
    options = {key: _number(value) for key, value in parse_qsl(url.query)}
    return {
        "ENGINE": _ENGINES[scheme],
        "NAME": unquote(name),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": str(options.pop("host", url.hostname or "")),
        "PORT": str(options.pop("port", port or "")),
        "OPTIONS": options,
    }


def _file(url: SplitResult) -> dict[str, Any]:
    if url.netloc or not url.path.strip("/"):
        raise ValueError("names no file; write sqlite:///absolute/path")
    # Elsewhere four slashes begin an absolute path. A relative one would be of no use here.
    return {"ENGINE": _ENGINES["sqlite"], "NAME": "/" + unquote(url.path).lstrip("/")}


def _number(text: str) -> str | int:
    return int(text) if text.isdecimal() else text
