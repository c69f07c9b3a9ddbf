"""Whose address it is: that of the peer, or the one a trusted proxy names."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"
"""Stands for whoever connects through a Unix socket, in `trusted_proxies` and as an address."""


_RECENT: Final = 256
"""Addresses that are remembered as they were read: most connections come by few proxies."""


class Peers:
    """Knows the proxies whose word is believed."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self.trust(trusted)

    def trust(self, trusted: Iterable[str]) -> None:
        """Believe these from now on, and no others."""
        names = list(trusted)
        self._unix = UNIX in names
        self._networks = [ipaddress.ip_network(n, strict=False) for n in names if n != UNIX]

    def address(self, peer: str, forwarded_for: Iterable[str]) -> str | None:
        """Return the client's address.

        `peer` is the address of the other end of the socket (UNIX for a Unix socket),
        `forwarded_for` the values of all X-Forwarded-For headers, in order. Each proxy appends the
        address that it was called from, so the client is the last one that isn't itself trusted:
        what stands before it, anybody may have written. None means that a trusted proxy did not
        say, and nobody can tell its clients apart.
        """
        ip = _parse(peer)
        if not (self._unix if peer == UNIX else self._trusts(ip)):
            return str(ip or peer)
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        for hop in reversed(hops):
            # nginx's word for whoever called it through a Unix socket.
            if hop == "unix:" and self._unix:
                continue
            ip = _parse(hop)
            if not self._trusts(ip):
                return str(ip) if ip else None
        return None

    def _trusts(self, ip: Address | None) -> bool:
        return ip is not None and any(ip in network for network in self._networks)


@functools.lru_cache(_RECENT)
def _parse(text: str) -> Address | None:
    """Read an address, with or without brackets and a port; None for anything else.

    Headers may hold anything. One client has one address here: IPv4 as IPv6 is IPv4.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
