from __future__ import annotations

from notifyd.core.folding import Folds


def test_first_line_goes() -> None:
    """The first line of a kind goes at once, whatever other kinds do."""
    folds = Folds[str](10)
    assert [folds.holds(kind, "line", now=0) for kind in ("a", "b")] == [False, False]


def test_repeated_lines_are_held() -> None:
    """Lines that follow one of their kind become one: the latest of them, and their number."""
    folds = Folds[str](10)
    held = [folds.holds("a", f"line {number}", now=number) for number in range(5)]
    assert held == [False, True, True, True, True]
    assert folds.due(now=9.9) == []
    assert folds.due(now=10) == [("line 4", 4)]


def test_line_that_comes_once() -> None:
    """Of a line that nothing like it has followed nothing is left over, and the next one goes."""
    folds = Folds[str](10)
    folds.holds("a", "line", now=0)
    assert folds.due(now=10) == []
    assert not folds.holds("a", "line", now=10)


def test_storm_that_lasts() -> None:
    """A storm is a line at its beginning, and one for each span of time that it lasts."""
    folds = Folds[int](10)
    told = 0
    for second in range(100):
        told += len(folds.due(second))
        told += not folds.holds("a", second, second)
    assert told == 10


def test_after_a_storm() -> None:
    """Once nothing was held back for a whole span, the next line goes at once again."""
    folds = Folds[str](10)
    folds.holds("a", "line", now=0)
    folds.holds("a", "line", now=1)
    assert folds.due(now=10) == [("line", 1)]
    assert folds.due(now=20) == []
    assert not folds.holds("a", "line", now=20)


def test_rest() -> None:
    """At the end nothing stays untold, and what follows is told."""
    folds = Folds[str](10)
    for kind in ("a", "a", "b", "c", "c", "c"):
        folds.holds(kind, kind, now=0)
    assert folds.rest() == [("a", 1), ("c", 2)]
    assert folds.rest() == []
    assert not folds.holds("a", "line", now=1)


def test_too_many_kinds() -> None:
    """Whoever makes up kinds gets a bounded number of lines; those already known stay apart."""
    folds = Folds[int](10)
    held = [folds.holds(kind, kind, now=0) for kind in range(1000)]
    assert held.count(False) == 101
    assert folds.holds(7, 7, now=0)
    assert folds.due(now=10) == [(7, 1), (999, 899)]
