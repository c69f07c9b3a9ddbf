from __future__ import annotations

import dataclasses

import pytest

from notifyd.core.batch import Batch, Positioned


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
