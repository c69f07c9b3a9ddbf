"""How far a page's word that it has an event is believed."""

from __future__ import annotations

import math

import pytest

from notifyd.core.acknowledgements import PER_DAEMON, Acknowledgement, Acknowledgements

HISTORY = 600.0
NEWEST = 1_000_000, 3
CLOCK = 1_000.25

OK, REPLAYED, UNKNOWN, LIMITED = Acknowledgement


def judge(
    acknowledgements: Acknowledgements,
    id_: str = "1000000-3",
    *,
    user: str = "7",
    now: float = 0.0,
    opened: float = -HISTORY,
) -> tuple[Acknowledgement, float]:
    """Have the word of a user judged."""
    return acknowledgements.judge(id_, user, NEWEST, opened=opened, clock=CLOCK, now=now)


@pytest.mark.parametrize(
    ("id_", "seconds"),
    [("1000000-3", 0.25), ("1000000-0", 0.25), ("999000-7", 1.25), ("400250-0", HISTORY)],
)
def test_believed(id_: str, seconds: float) -> None:
    """What was relayed counts, with its age, as long as it is kept."""
    result, age = judge(Acknowledgements(HISTORY), id_)
    assert result is OK
    assert math.isclose(age, seconds)


@pytest.mark.parametrize(
    "id_",
    [
        *("", "0", "-", "1000000", "1000000-", "1000000-03", "x-0", "-1-0", "1e6-0", "\u0661-0"),
        *("18446744073709551616-0", "9" * 4000, " 1000000-3", "1000000-3\n"),
    ],
)
def test_no_id(id_: str) -> None:
    """What is no id of a stream's is unknown."""
    assert judge(Acknowledgements(HISTORY), id_) == (UNKNOWN, 0)


@pytest.mark.parametrize("id_", ["1000000-4", "1000001-0", "18446744073709551615-0"])
def test_from_the_future(id_: str) -> None:
    """What was not relayed yet is unknown."""
    assert judge(Acknowledgements(HISTORY), id_) == (UNKNOWN, 0)


@pytest.mark.parametrize("id_", ["0-0", "1-1", "400249-0"])
def test_too_old(id_: str) -> None:
    """What nobody keeps any more is unknown."""
    assert judge(Acknowledgements(HISTORY), id_) == (UNKNOWN, 0)


@pytest.mark.parametrize(("opened", "result"), [(-0.25, OK), (-0.249, REPLAYED), (0, REPLAYED)])
def test_replayed(opened: float, result: Acknowledgement) -> None:
    """What is older than the connection was missed before, and does not count."""
    assert judge(Acknowledgements(HISTORY), opened=opened) == (result, 0.25)


def test_nobody() -> None:
    """Whoever was not let in has got nothing."""
    result = Acknowledgements(HISTORY).judge(
        "1000000-3", None, NEWEST, opened=-HISTORY, clock=CLOCK, now=0
    )
    assert result == (UNKNOWN, 0)


def test_before_the_bus_was_reached() -> None:
    """While nothing can have been relayed, everything is unknown."""
    result = Acknowledgements(HISTORY).judge(
        "1000000-3", "7", None, opened=-HISTORY, clock=CLOCK, now=0
    )
    assert result == (UNKNOWN, 0)


def test_clocks_disagree() -> None:
    """The age is negative where Redis' clock is ahead."""
    result = Acknowledgements(HISTORY).judge(
        "1000000-3", "7", NEWEST, opened=-HISTORY, clock=999.0, now=0
    )
    assert result == (OK, -1)


def test_one_user() -> None:
    """Of one user one counts in a second, whatever is said in between."""
    acknowledgements = Acknowledgements(HISTORY)
    said = [judge(acknowledgements, now=n / 10)[0] for n in range(30)]
    assert [n for n, result in enumerate(said) if result is OK] == [0, 10, 20]
    assert {*said} == {OK, LIMITED}


def test_the_unknown_uses_nothing_up() -> None:
    """What is unknown keeps nobody's word from being heard."""
    acknowledgements = Acknowledgements(HISTORY)
    assert {judge(acknowledgements, "0-0")[0] for _ in range(1000)} == {UNKNOWN}
    assert judge(acknowledgements)[0] is OK


def test_a_crowd() -> None:
    """However many users there are, only so many count in a second, each of them once."""
    acknowledgements = Acknowledgements(HISTORY)
    crowd = [str(n) for n in range(1000)]
    counted = [
        user
        for now in range(10)
        for user in crowd + crowd
        if judge(acknowledgements, user=user, now=float(now))[0] is OK
    ]
    assert len(counted) == 10 * PER_DAEMON
    assert len({*counted[: int(PER_DAEMON)]}) == PER_DAEMON


def test_memory() -> None:
    """No crowd fills the memory, and no user is forgotten in order to be heard twice."""
    acknowledgements = Acknowledgements(HISTORY)
    for n in range(3000):
        user, now = str(n), n / 1000
        judge(acknowledgements, user=user, now=now)
        assert judge(acknowledgements, user=user, now=now)[0] is LIMITED
        assert len(acknowledgements._users) <= 2 * PER_DAEMON
