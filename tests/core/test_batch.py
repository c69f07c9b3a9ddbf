from __future__ import annotations

import dataclasses

import pytest

from notifyd.core.batch import Batch, Extent, Page, Positioned, Unavailable


def test_a_batch_keeps_order() -> None:
    """A batch holds raw entries in the order of their source; only the stream's have an id."""
    batch = Batch("stream", [("1-0", {b"event": b"{}"}), ("2-0", {b"event": b"{}"})])
    assert [id_ for id_, _ in batch.entries] == ["1-0", "2-0"]
    assert Batch("pubsub", [(None, {b"event": b"{}"})]).entries[0][0] is None


def test_a_position_is_a_value() -> None:
    """Two words of the same position are equal, and nobody can change what was said."""
    position = Positioned("epoch", "1-0", gap=None)
    assert position == Positioned("epoch", "1-0", None) != Positioned("epoch", "1-0", "trimmed")
    with pytest.raises(dataclasses.FrozenInstanceError):
        position.last_id = "2-0"  # type: ignore[misc]


def test_how_far_the_stream_reaches() -> None:
    """An extent names the history, its first position and its last one."""
    extent = Extent("epoch", (1, 0), (5, 0))
    assert (extent.epoch, extent.first, extent.last) == ("epoch", (1, 0), (5, 0))
    assert extent != Extent("another", (1, 0), (5, 0))


@pytest.mark.parametrize("complete", [True, False])
def test_a_page_of_older_entries(complete: bool) -> None:  # noqa: FBT001 - the last one or not
    """A page says what it was cut from, and whether there is more where it came from."""
    page = Page(Extent("epoch", (1, 0), (5, 0)), [("1-0", {b"event": b"{}"})], complete)
    assert page.complete is complete
    assert page.entries[0][0] == "1-0"


def test_the_bus_may_not_answer() -> None:
    """That the bus can't be asked is an answer, which says why."""
    with pytest.raises(Unavailable, match=r"^Redis does not answer$"):
        raise Unavailable("Redis does not answer")
