"""Addresses to listen at: hosts with a port, and Unix sockets.

What can't be read raises ValueError with a text that completes "ADDRESS ...": what is wrong, then
what to write instead. The text never repeats the address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

# The last byte of sun_path is the terminating NUL (unix(7)).
MAX_SOCKET_PATH = 107
MAX_PORT = 65_535

# Host names as RFC 1123 section 2.1 has them; the underscore occurs in container networks.
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)


# What systemd takes for FileDescriptorName= (systemd.socket(5)).
_SOCKET_NAME = re.compile(r"[!-9;-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port, or a Unix socket (whose `path` is then not empty).

    Or at the sockets that systemd passes under a `name` (FileDescriptorName= of systemd.socket(5)).
    """

    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return f"systemd:{self.name}"
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine can connect; a name other than localhost is not looked up.

        Of systemd's sockets nothing is known yet, and they are taken for local ones.
        """
        if self.path or self.name or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read `host:port`, `[v6]:port`, `unix:/absolute/path` or `systemd:name`.

    Port 0 is any free one.

    Raises ValueError saying what is wrong and what to write instead.
    """
    if text.startswith("unix:"):
        check_socket_path(text.removeprefix("unix:"))
        return Address(path=text.removeprefix("unix:"))
    if text.startswith("systemd:"):
        name = text.removeprefix("systemd:")
        if not _SOCKET_NAME.fullmatch(name):
            raise ValueError("has no valid name; write the FileDescriptorName= of a socket unit")
        return Address(name=name)
    if "/" in text:
        raise ValueError('is no address; write "host:port" without a scheme, or "unix:/path"')
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError('has no port; write "host:port", for example "localhost:8888"')
    if not (port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))):
        raise ValueError(f"has no port after the last colon; write a number from 0 to {MAX_PORT}")
    if int(port) > MAX_PORT:
        raise ValueError(f"has a port that is too large; write a number from 0 to {MAX_PORT}")
    if host in {"", "*"}:
        raise ValueError('names no host; write "0.0.0.0:PORT" or "[::]:PORT" to listen everywhere')
    return Address(host=parse_host(host), port=int(port))


def parse_host(text: str) -> str:
    """Read a host name or an IP address, IPv6 in brackets, and return it in lower case without."""
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name whose last label is a number is a mistyped or shortened IPv4 address (127.1);
        # resolvers disagree about those.
        name = not bracketed and _NAME.fullmatch(host)
        if not name or host.rstrip(".").rpartition(".")[2].isdecimal():
            raise ValueError("has no valid host; write a name or an IP address") from None
        return host.lower()
    if bracketed != (address.version == 6):  # noqa: PLR2004 - the version of the protocol, not a quantity.
        raise ValueError('needs brackets around IPv6 and only there; write "[::1]:PORT"')
    return str(address)


def check_socket_path(text: str) -> None:
    """Refuse what cannot be the name of a Unix socket, relative paths included."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError("is no absolute path; write the whole path, beginning with /")
    if len(text.encode(errors="surrogateescape")) > MAX_SOCKET_PATH:
        raise ValueError(f"is longer than a socket's path may be; use {MAX_SOCKET_PATH} bytes")
