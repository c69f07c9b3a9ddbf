"""The demo's ports: which of them are taken, and the way out."""

from __future__ import annotations

import errno
import itertools
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from notifyd.demo_processes import DemoError

if TYPE_CHECKING:
    from collections.abc import Sequence

# A browser tries both for localhost: a stranger at either would be taken for the demo.
_LOOPBACK: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

_ABSENT: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""How a machine without IPv6 refuses."""

_LAST: Final = 65_535


class Port(NamedTuple):
    """A port, what it is for, and the option that changes it."""

    number: int
    purpose: str
    option: str


def refuse_taken(ports: Sequence[Port]) -> None:
    """Raise DemoError if any of the ports can't be listened at, with options that would do."""
    faults = []
    options = []
    spoken_for = {port.number for port in ports}
    seen: set[int] = set()
    for port in ports:
        fault = "it is given twice" if port.number in seen else _fault(port.number)
        seen.add(port.number)
        if fault is not None:
            faults.append(f"Port {port.number}, for {port.purpose}, can't be used: {fault}.")
            number = _free(port.number, spoken_for)
            spoken_for.add(number)
            options.append(f"{port.option} {number}")
    if faults:
        line = " ".join(options)
        ways = ["Choose others:", f"    notifyd demo {line}", f'    make demo ARGS="{line}"']
        raise DemoError("\n".join([*faults, *ways]))


def _fault(number: int) -> str | None:
    for family, host in _LOOPBACK:
        try:
            with socket.socket(family) as probe:
                # As servers do: connections of the last demo that are not quite over don't count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, number))
        except OSError as error:
            if error.errno not in _ABSENT:
                return str(error.strerror).lower()
    return None


def _free(number: int, spoken_for: set[int]) -> int:
    # Near the usual one; a port that only root may use has free ones far above it.
    start = max(number, 1023) + 1
    for candidate in itertools.chain(range(start, _LAST + 1), range(1024, start)):
        if candidate not in spoken_for and _fault(candidate) is None:
            return candidate
    raise DemoError("No port is free.")
