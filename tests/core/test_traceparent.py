from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.traceparent import TraceParent, parse_traceparent, recorded_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_context_survives_its_journey(trace: int, span: int, flags: int) -> None:
    """What is written as a header is read back as it was."""
    context = TraceParent(trace, span, flags)
    assert parse_traceparent(str(context)) == context


def test_header() -> None:
    """The header of the recommendation's example has the ids and flags that it shows."""
    header = f"00-{TRACE}-{SPAN}-01"
    context = parse_traceparent(header)
    assert context == (int(TRACE, 16), int(SPAN, 16), 1)
    assert str(context) == header


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False)])
def test_sampled(flags: str, sampled: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The lowest bit of the flags says that the trace is recorded, whatever the others say."""
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}").sampled is sampled


@pytest.mark.parametrize("more", ["", "-", "-what comes\nhere"])
def test_later_version(more: str) -> None:
    """Of a later version the known fields are read, and written as the version that is known."""
    context = parse_traceparent(f"cc-{TRACE}-{SPAN}-01{more}")
    assert str(context) == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "header",
    [
        *("", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-001"),
        *(f"00-{TRACE.upper()}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01", f"00-{TRACE[1:]}-{SPAN}-01"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-", f"00-{TRACE}-{SPAN}-01-more"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00_{TRACE}_{SPAN}_01"),
        *(f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", f"01-{TRACE}-{SPAN}-01more"),
        "00-" + "\u0664" * 32 + f"-{SPAN}-01",
    ],
)
def test_what_is_no_header(header: str) -> None:
    """What isn't a header is refused, however nearly it is one, with words that don't quote it."""
    with pytest.raises(ValueError, match=r"^traceparent must be ") as caught:
        parse_traceparent(header)
    assert TRACE.lower() not in str(caught.value).lower()


def test_entry() -> None:
    """An entry of the bus carries its publisher's span as a header."""
    header = f"00-{TRACE}-{SPAN}-01"
    assert recorded_parent({b"traceparent": header.encode()}) == parse_traceparent(header)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode()},
        {b"traceparent": b""},
        {b"traceparent": b"00-1-2-01"},
        {b"traceparent": b"\xff" * 55},
    ],
)
def test_entry_without_a_recorded_trace(fields: dict[bytes, bytes]) -> None:
    """An entry without a header, one that says "not recorded" or one in ruins: there is no span."""
    assert recorded_parent(fields) is None
