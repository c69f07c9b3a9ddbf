from __future__ import annotations

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.limits import Bucket, Buckets, Counts

# Eighths of a second, and rates that are powers of two: floats add them exactly, so the model
# and the bucket can be compared without a tolerance.
steps = st.lists(st.integers(0, 40).map(lambda eighths: eighths / 8), max_size=60)
rates = st.sampled_from([0.5, 1.0, 2.0, 4.0])


def test_a_burst_and_no_more() -> None:
    """A bucket starts full: burst tokens can be taken at once."""
    bucket = Bucket(10, 3)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]


def test_tokens_flow_in_at_the_rate() -> None:
    """Tokens flow in at the rate, up to the burst and not beyond."""
    bucket = Bucket(2, 2)
    assert [bucket.take(t) for t in (0, 0, 0, 0.25, 0.5, 0.75, 1)] == [1, 1, 0, 0, 1, 0, 1]
    assert [bucket.take(1_000) for _ in range(3)] == [True, True, False]


def test_a_refusal_costs_nothing() -> None:
    """Who keeps trying while the bucket is empty gets the next token when it is there."""
    bucket = Bucket(1, 1)
    assert bucket.take(0)
    assert not any(bucket.take(n / 16) for n in range(16))
    assert bucket.take(1)


def test_a_slow_bucket_holds_one_token() -> None:
    """A bucket holds one token at least, or a rate of one in two seconds would mean never."""
    bucket = Bucket(0.5, 0.5)
    assert [bucket.take(t) for t in (0, 1, 2)] == [True, False, True]


def test_what_is_owed_flows_in_first() -> None:
    """A bucket that was charged beyond its last token has to earn those back."""
    bucket = Bucket(1, 2)
    for _ in range(4):
        bucket.charge(0)
    assert [bucket.empty(t) for t in (0, 2, 2.5, 3, 4)] == [True, True, True, False, False]


def test_nobody_owes_more_than_a_burst() -> None:
    """However often a bucket is charged, it is full again after twice the time of a burst."""
    bucket = Bucket(1, 2)
    for _ in range(1_000):
        bucket.charge(0)
    assert bucket.full_at() == 4


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_is_positive(rate: float) -> None:
    """A bucket into which nothing flows is a mistake."""
    with pytest.raises(ValueError, match="positive"):
        Bucket(rate, 1)


def test_time_never_flows_twice() -> None:
    """A clock that goes back gives nothing, and the same seconds give nothing again."""
    bucket = Bucket(1, 1)
    assert [bucket.take(t) for t in (10, 5, 10.5, 5, 11)] == [True, False, False, False, True]


@given(rates, st.integers(1, 5), steps)
def test_empty_foretells_take(rate: float, burst: int, waits: list[float]) -> None:
    """Asking whether the bucket is empty takes nothing and tells what a take would do."""
    bucket, now = Bucket(rate, burst), 0.0
    for wait in waits:
        now += wait
        assert bucket.empty(now) is bucket.empty(now)
        assert bucket.empty(now) is not bucket.take(now)


@given(rates, st.integers(1, 5), steps)
def test_no_window_has_too_many(rate: float, burst: int, waits: list[float]) -> None:
    """In any stretch of time at most burst + rate * seconds takes succeed."""
    bucket, now, taken = Bucket(rate, burst), 0.0, []
    for wait in waits:
        now += wait
        if bucket.take(now):
            taken.append(now)
    for i, start in enumerate(taken):
        for count, end in enumerate(taken[i:], 1):
            assert count <= burst + rate * (end - start)


@given(rates, st.integers(1, 5), steps)
def test_full_at_is_when_it_is_full(rate: float, burst: int, waits: list[float]) -> None:
    """From full_at on the whole burst can be taken, before it can't."""
    bucket, now = Bucket(rate, burst), 0.0
    for wait in waits:
        now += wait
        bucket.take(now)
    full = max(bucket.full_at(), now)
    assert [bucket.take(full) for _ in range(burst + 1)] == [True] * burst + [False]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 16)), max_size=60))
def test_each_key_has_a_bucket(steps: list[tuple[str, int]]) -> None:
    """While there is room, each key is treated as if it had a bucket of its own for ever."""
    buckets, now = Buckets(2, 3, most=4), 0.0
    alone: dict[str, Bucket] = collections.defaultdict(lambda: Bucket(2, 3))
    for key, eighths in steps:
        now += eighths / 8
        assert buckets.empty(key, now) is alone[key].empty(now)
        assert buckets.take(key, now) is alone[key].take(now)
        assert len(buckets) <= 4


def test_each_key_is_charged_alone() -> None:
    """Charging a key empties its bucket and no other."""
    buckets = Buckets(1, 1, most=10)
    buckets.charge("a", 0)
    buckets.charge("a", 0)
    assert (buckets.empty("a", 1.5), buckets.empty("a", 2), buckets.empty("b", 0)) == (1, 0, 0)


def test_asking_adds_no_key() -> None:
    """Asking about an unknown key takes nothing and remembers nothing."""
    buckets = Buckets(1, 1, most=10)
    assert not buckets.empty("a", 0)
    assert len(buckets) == 0


def test_full_buckets_are_forgotten_first() -> None:
    """When room is needed the full buckets go, not the oldest."""
    buckets = Buckets(1, 10, most=2)
    for _ in range(10):
        buckets.take("old debtor", 0)
    buckets.take("recent", 1)
    buckets.take("new", 5)
    assert buckets.empty("old debtor", 0)
    assert len(buckets) == 2


def test_the_deepest_debt_is_remembered() -> None:
    """When no bucket is full, the one goes that would be full soonest."""
    buckets = Buckets(1, 3, most=3)
    for key, takes in (("a", 3), ("b", 1), ("c", 2)):
        for _ in range(takes):
            buckets.take(key, 0)
    for crowd in range(100):
        buckets.take(crowd, 0)
    assert buckets.empty("a", 0)
    assert len(buckets) == 3


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 8)), max_size=80))
def test_the_number_of_keys_is_bounded(most: int, steps: list[tuple[int, int]]) -> None:
    """However many keys come, at most ``most`` are remembered, and one at least."""
    buckets, now = Buckets(1, 2, most), 0.0
    for key, quarters in steps:
        now += quarters / 4
        buckets.take(key, now)
        assert len(buckets) == len(buckets._order) <= max(most, 1)


def test_counts_up_to_a_limit() -> None:
    """A key is counted up to its limit; a refused one is not counted."""
    counts = Counts()
    assert [counts.add("a", 2) for _ in range(3)] == [True, True, False]
    assert counts["a"] == 2
    assert counts.add("b", 2)
    counts.remove("a")
    assert counts.add("a", 2)


def test_no_limit() -> None:
    """A limit of 0 is no limit."""
    counts = Counts()
    assert all(counts.add("a", 0) for _ in range(1_000))
    assert counts["a"] == 1_000


def test_counts_forget_what_is_gone() -> None:
    """A key that has none is not remembered, whether it was counted, asked for or refused."""
    counts = Counts()
    counts.add("a", 1)
    counts.add("a", 1)
    counts.remove("a")
    assert counts["a"] == counts["b"] == len(counts) == 0


def test_nothing_is_removed_twice() -> None:
    """Removing what was not counted is a mistake, not a negative count."""
    counts = Counts()
    with pytest.raises(KeyError):
        counts.remove("a")
    assert counts["a"] == len(counts) == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_counts_agree_with_a_list(steps: list[tuple[bool, str]]) -> None:
    """Each key has as many as were added and not removed."""
    counts, model = Counts(), []
    for adding, key in steps:
        if adding and counts.add(key, 3):
            model.append(key)
        elif not adding and key in model:
            model.remove(key)
            counts.remove(key)
        assert {k: counts[k] for k in "abc"} == {k: model.count(k) for k in "abc"}
        assert len(counts) == len(set(model))
