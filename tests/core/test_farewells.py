"""How connections ended."""

from __future__ import annotations

from notifyd.core.farewells import Farewell, Farewells


def test_latest() -> None:
    """Of each user the latest end is remembered."""
    farewells = Farewells()
    farewells.note("7", Farewell(1001, "going away", 1.0))
    farewells.note("7", Farewell(4420, "too slow", 2.0))
    assert farewells.latest("7") == (4420, "too slow", 2.0)
    assert farewells.latest("8") is None


def test_bounded() -> None:
    """Who left long ago gives way to others."""
    farewells = Farewells(most=2)
    for user in ("7", "8", "7", "9"):
        farewells.note(user, Farewell(1001, "going away", 1.0))
    assert [user for user in "789" if farewells.latest(user)] == ["7", "9"]
