from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.positions import format_position, parse_position

MOST = 2**64 - 1

numbers = st.integers(0, MOST) | st.integers(0, 20)
positions = st.tuples(numbers, numbers)


@given(positions)
def test_a_position_survives_its_journey(position: tuple[int, int]) -> None:
    """A position is read back from its id as it was."""
    assert parse_position(format_position(position)) == position


@given(st.from_regex(r"[0-9]{1,21}-[0-9]{1,21}", fullmatch=True) | st.text("019- +\n\u0663\uff11"))
def test_an_id_has_one_spelling(text: str) -> None:
    """A text is either refused, or the very one that its position is written as."""
    try:
        position = parse_position(text)
    except ValueError:
        return
    assert format_position(position) == text
    assert max(position) <= MOST


@given(st.lists(positions))
def test_positions_have_the_order_of_their_numbers(some: list[tuple[int, int]]) -> None:
    """Positions follow each other by their milliseconds, and by their numbers within one."""
    ids = sorted(map(format_position, some), key=parse_position)
    by_numbers = sorted(some, key=lambda position: position[0] << 64 | position[1])
    assert ids == [format_position(position) for position in by_numbers]


def test_numbers_are_no_texts() -> None:
    """Ten comes after nine, which as texts it does not."""
    ids = ["0-0", "0-1", "9-0", "9-9", "9-10", "10-0", f"10-{MOST}", "11-0", f"{MOST}-{MOST}"]
    assert all(parse_position(a) < parse_position(b) for a, b in itertools.pairwise(ids))


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "1", "1-", "-1", "1-2-3", "1--2", "1.0-0", "1e3-0", "0x1-0", "1_0-0"),
        *("$", "+", "*", "1-*", "+1-0", "-1-0", "1-+0", "(1-0"),
        *("01-0", "1-00", " 1-0", "1-0 ", "1 -0", "1-0\n", "1-0\0", "\uff11-0", "1-\u0663"),
        *(f"{MOST + 1}-0", f"0-{MOST + 1}", f"{'9' * 20}-0", f"{'1' * 5_000}-0"),
    ],
)
def test_what_redis_never_gives_out(text: str) -> None:
    """What can't be an id of the stream is refused, however nearly it is one."""
    with pytest.raises(ValueError, match=r"^(not an id of a stream|an id's numbers have 64 bits)$"):
        parse_position(text)
