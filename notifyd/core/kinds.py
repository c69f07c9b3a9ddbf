"""The kinds of values an option takes: what is allowed in words, and a check of one value.

A check raises ValueError with a text that completes "NAME = VALUE ...": what is wrong, then what to
do. The text never repeats the value, because the value may be a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from notifyd.core.addresses import check_socket_path, parse_address, parse_host
from notifyd.core.database_url import parse_database
from notifyd.core.levels import parse_level

if TYPE_CHECKING:
    from collections.abc import Callable

# A longer wait is a slip of units; and far longer ones overflow the event loop's timers.
DAY = 86_400

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_USUAL_PORTS = {"http": 80, "https": 443}
_LATER = {"redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
_REDIS_HINT = (
    "cannot be read; write redis://HOST:PORT/DB and percent-encode / ? # @ and blanks in passwords"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option, or each item of a list, may hold.

    `words` go to the reference page; `check` raises ValueError for a value that is not allowed.
    """

    words: str
    check: Callable[[Any], object]


def _check_control(text: str) -> None:
    if text.startswith("unix:"):
        raise ValueError("has a prefix too many; write the path without unix:")
    if text:
        check_socket_path(text)


def _check_path(text: str) -> None:
    if text and (not text.startswith("/") or any(c in "?#" or c <= " " for c in text)):
        raise ValueError('is no path of a URL; write one like "/notifications", or "" for any')


def _check_directory(text: str) -> None:
    if text and not text.startswith("/"):
        raise ValueError("is no absolute path; write the whole path, beginning with /")


def _check_module(text: str) -> None:
    if text and (text.endswith(".py") or not _MODULE.fullmatch(text)):
        raise ValueError('is no name of a module; write it as in Python: "mysite.settings"')


def _check_origin(text: str) -> None:
    if "*" in text:
        raise ValueError("would let other sites in; list the site's origins one by one")
    if "://" not in text:
        raise ValueError('is no origin; write scheme and host: "https://www.example.com"')
    scheme, _, host = text.partition("://")
    if any(c in "/?#" for c in host):
        raise ValueError("has something after the host; leave out the slash and what follows it")
    if scheme in {"ws", "wss"}:
        raise ValueError("is a socket's address; write the page's own: http:// or https://")
    if text != text.lower() or not text.isascii():
        raise ValueError("is not as browsers send it; write it in lower case and ASCII (xn--...)")
    try:
        port = urlsplit(text).port
        parse_host(host.removesuffix(f":{port}"))
    except ValueError:
        raise ValueError('has no valid host; write "https://www.example.com"') from None
    if not _SCHEME.fullmatch(scheme):
        raise ValueError('has no valid scheme; write "https://www.example.com"')
    if port is not None and port == _USUAL_PORTS.get(scheme):
        raise ValueError(f"is not as browsers send it; leave out the port :{port}")


def _check_proxy(text: str) -> None:
    if text == "unix":
        return
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError('is no IP address or network; write one, or "unix"') from None
        raise ValueError(f"is an address within its network; write {network}") from None


def _check_redis_url(text: str) -> None:
    scheme = text.partition("://")[0].lower()
    if scheme in _LATER:
        raise ValueError("is a Sentinel or Cluster address: not supported yet; write one server's")
    if text and ("://" not in text or scheme not in {"redis", "rediss", "unix"}):
        raise ValueError("has another scheme; write redis://, rediss:// or unix://")
    if text:
        _check_redis_place(text, scheme)


def _check_redis_place(text: str, scheme: str) -> None:
    # urllib's own errors repeat the port, which is part of a password with an unencoded slash.
    try:
        url = urlsplit(text)
        place = (url.hostname, url.port)
    except ValueError:
        raise ValueError(_REDIS_HINT) from None
    # A password in the place of the name is a common slip, and would be shown as a name.
    if url.username and url.password is None:
        raise ValueError("has a user's name and no password; write redis://:PASSWORD@HOST:PORT/DB")
    if scheme == "unix":
        if place != (None, None) or url.path in {"", "/"} or " " in text or url.fragment:
            raise ValueError("names no socket; write unix:///absolute/path?db=NUMBER")
    elif not url.hostname or " " in text or url.fragment:
        raise ValueError(_REDIS_HINT)
    elif not re.fullmatch(r"/?|/[0-9]+", url.path):
        raise ValueError("has no database's number as its path; write redis://HOST:PORT/DB")


def _check_prefix(text: str) -> None:
    if not text or any(c in "{}" or c <= " " for c in text):
        raise ValueError("cannot be part of a key; use letters, digits, - and :, without braces")


def _check_database_url(text: str) -> None:
    if text:
        parse_database(text)


def _check_identifier(text: str) -> None:
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError("is no plain name; write letters, digits and _, without a schema")


def _check_identifier_or_empty(text: str) -> None:
    if text:
        _check_identifier(text)


def _check_word(text: str) -> None:
    if not text or any(c <= " " for c in text):
        raise ValueError("is empty or has blanks; write a name")


def numbers(least: float, most: float | None = None, *, above: bool = False) -> Kind:
    """Numbers from `least` (or only above it) to `most`."""
    words = f"more than {least}" if above else f"{least} or more"
    if most is not None:
        words += f", at most {most}"

    def check(value: float) -> None:
        if value < least or (above and value == least) or (most is not None and value > most):
            raise ValueError(f"is out of range; write a number that is {words}")

    return Kind(words, check)


def choice(*choices: str) -> Kind:
    """One of a few words."""

    def check(value: str) -> None:
        if value not in choices:
            near = difflib.get_close_matches(value.lower(), choices, n=1)
            hint = f'write "{near[0]}"' if near else "write one of them"
            raise ValueError(f"is none of {', '.join(choices)}; {hint}")

    return Kind(", ".join(choices), check)


SECONDS = numbers(0, DAY, above=True)
ADDRESS = Kind(
    "`host:port`, `[IPv6]:port`, `unix:/absolute/path`, `systemd:NAME`; port 0: any", parse_address
)
BOOLEAN = Kind("true, false", bool)
CONTROL = Kind("an absolute path, or empty", _check_control)
DATABASE_URL = Kind("`postgresql://`, `mysql://`, `sqlite:///`, or empty", _check_database_url)
DIRECTORY = Kind("an absolute path, or empty", _check_directory)
IDENTIFIER = Kind("letters, digits and `_`", _check_identifier)
IDENTIFIER_OR_EMPTY = Kind("letters, digits and `_`, or empty", _check_identifier_or_empty)
LEVEL = Kind("`part=level`, each part once", parse_level)
MODULE = Kind("the dotted name of a module, or empty", _check_module)
ORIGIN = Kind("`scheme://host[:port]`, as browsers send it", _check_origin)
PATH = Kind("a path beginning with `/`, or empty", _check_path)
PREFIX = Kind("text without blanks and braces", _check_prefix)
PROXY = Kind("IP addresses, networks, `unix`", _check_proxy)
REDIS_URL = Kind("`redis://`, `rediss://`, `unix://`, or empty", _check_redis_url)
SECRET = Kind("any text", str)
WORD = Kind("text without blanks", _check_word)
