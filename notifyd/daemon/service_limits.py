"""The limits of the parts, as the options say."""

from __future__ import annotations

import re
import resource
from typing import TYPE_CHECKING, Final

from notifyd.core.limits import Buckets
from notifyd.core.session import Policy
from notifyd.daemon.timers import Times

if TYPE_CHECKING:
    from notifyd.core.options import Auth, Server

_RESERVED_DESCRIPTORS: Final = 200
"""Left to the database, Redis, the admin listener and the log when connections fill the rest."""

_KERNEL_DESCRIPTORS: Final = 1_048_576
"""The kernel's own bound on descriptors, /proc/sys/fs/nr_open, as it is everywhere."""

_ADDRESSES: Final = 10_000
"""Addresses whose failed authentications are remembered at a time."""

_LOOPBACK_ORIGINS: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def policy(options: Server) -> Policy:
    """Return what sessions have in common by the options."""
    return Policy(
        # No Origin: not a browser, and so no page that could misuse somebody's session.
        origins=[None, *(options.origins or [_LOOPBACK_ORIGINS])],
        max_message=options.max_message,
        messages_per_second=options.messages_per_second,
    )


def times(options: Server) -> Times:
    """Return how long clients may take for what they have to do, by the options."""
    return Times(
        handshake=options.handshake_timeout,
        hello=options.hello_timeout,
        farewell=options.close_timeout,
        answer=options.ping_timeout,
        progress=options.progress_timeout,
    )


def most_connections(options: Server) -> int:
    """Return how many clients there may be: as many as descriptors allow, if that is open."""
    return options.max_connections or _room(_descriptors())


def failures(options: Auth) -> Buckets:
    """Return the limit on failed authentications by the options."""
    return Buckets(options.failures_per_second, options.failures_burst, _ADDRESSES)


def _descriptors() -> int:
    """Raise the limit on open descriptors as far as it goes, and return it (getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _KERNEL_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _room(descriptors: int) -> int:
    """Return how many connections fit beside everything else that needs a descriptor."""
    return max(descriptors - _RESERVED_DESCRIPTORS, descriptors // 2)
