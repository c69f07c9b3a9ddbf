"""Trace context: whose trace an event belongs to, as the header `traceparent` says it.

W3C Recommendation "Trace Context", section 3.2: `00-TRACE-PARENT-FLAGS`, which are the ids of the
trace and of the span that goes on here, 32 and 16 hexadecimal digits, and eight bits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Later versions may append fields behind another hyphen; ff is no version (section 3.2.2.1).
_HEADER: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII | re.DOTALL,
)
_SAMPLED: Final = 1


class TraceParent(NamedTuple):
    """A span that others are children of: two ids, as numbers, and eight flags."""

    trace: int
    span: int
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded the trace, and expects the same of others."""
        return bool(self.flags & _SAMPLED)

    def __str__(self) -> str:
        """Return the header in version 00, the highest that is known here."""
        return f"00-{self.trace:032x}-{self.span:016x}-{self.flags:02x}"


class Passage(NamedTuple):
    """How an event whose trace is recorded went through the daemon. Times are Unix time, seconds.

    It was published with an id, read with others, `events` in all, and all of them were written to
    their live recipients by `written`, in `deliveries` of one event to one client each.
    """

    parent: TraceParent
    id: str
    published: float
    read: float
    written: float
    events: int
    deliveries: int


def recorded_parent(fields: Mapping[bytes, bytes]) -> TraceParent | None:
    """Return the publisher's span that an entry of the bus carries, if its trace is recorded.

    What can't be understood counts as none: the event is what matters.
    """
    header = fields.get(b"traceparent")
    if header is None:
        return None
    try:
        parent = parse_traceparent(header.decode("ascii"))
    except ValueError:
        return None
    return parent if parent.sampled else None


def parse_traceparent(header: str) -> TraceParent:
    """Return what a header says, of a later version what all have in common.

    Raises ValueError, which does not quote it: a stranger may have sent it.
    """
    match = _HEADER.fullmatch(header)
    if match is None or (match[1] == "00" and match[5] is not None):
        raise ValueError(
            "traceparent must be 00-TRACE-PARENT-FLAGS: 32, 16 and 2 hexadecimal digits in small"
            " letters, and neither id all zeros"
        )
    return TraceParent(int(match[2], 16), int(match[3], 16), int(match[4], 16))
