"""Who gets an event, who does not, and why."""

from __future__ import annotations

import pytest

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.events import Rule
from notifyd.core.explanations import MOST_NAMES, Verdict, best, demands, either, judge, missing

READER = Rule(permissions=frozenset({"articles.view_article"}))
STAFF = Rule(groups=frozenset({"3"}))
NAMED = Rule(users=frozenset({"7", "8"}))
BOTH = Rule(all=(READER, STAFF))

ALICE = Audience.build(Vocabulary(), permissions=["articles.view_article"])
ROOT = Audience.build(Vocabulary(), superuser=True)


@pytest.mark.parametrize(
    ("rule", "audience", "behind", "verdict"),
    [
        (READER, ALICE, False, Verdict.GETS),
        (READER, ALICE, True, Verdict.GETS_LATER),
        (READER, None, True, Verdict.SUSPENDED),
        (STAFF, ALICE, False, Verdict.MAY_NOT),
        (STAFF, ALICE, True, Verdict.MAY_NOT),
        (NAMED, ALICE, False, Verdict.GETS),
    ],
)
def test_judge(
    rule: Rule,
    audience: Audience | None,
    behind: bool,  # noqa: FBT001 - the two cases
    verdict: Verdict,
) -> None:
    """A connection gets what its user may see: now, later, or when that is known."""
    assert judge(rule, "7", audience, behind=behind) is verdict


def test_best() -> None:
    """A user gets what one of the user's connections gets."""
    assert best([Verdict.SUSPENDED, Verdict.GETS, Verdict.GETS_LATER]) is Verdict.GETS
    assert best([Verdict.MAY_NOT, Verdict.SUSPENDED]) is Verdict.SUSPENDED
    assert best([]) is Verdict.NOT_CONNECTED


def test_demands() -> None:
    """What a rule demands is told in words, each alternative by itself."""
    rule = Rule(
        users=frozenset({"7"}),
        groups=frozenset({"3"}),
        permissions=frozenset({"a.b", "a.a"}),
        content_types=frozenset({"5"}),
        all=(STAFF, Rule(users=frozenset({"8"}), groups=frozenset({"4"}))),
    )
    assert demands(rule) == [
        "the permission a.a or a.b",
        "the permission to view or change content type 5",
        "membership in group 3",
        "being user 7",
        "membership in group 3 and (membership in group 4 or being user 8)",
    ]


def test_everyone() -> None:
    """Of an event for everyone nothing is demanded."""
    assert demands(Rule(everyone=True)) == ["nothing"]


def test_many_names() -> None:
    """Of many names some are told, and how many more there are."""
    [words] = demands(Rule(users=frozenset(map(str, range(1000, 2000)))))
    assert words.endswith(f"or 1009 or {1000 - MOST_NAMES} more")


def test_missing() -> None:
    """What somebody lacks leaves out what the user has."""
    assert missing(BOTH, "7", ALICE) == ["membership in group 3"]
    assert missing(BOTH, "7", ROOT) == ["membership in group 3"]
    assert missing(STAFF, "7", ALICE) == ["membership in group 3"]


def test_either() -> None:
    """Several alternatives are in brackets, a single one is not."""
    assert either(["a"]) == "a"
    assert either(["a", "b"]) == "(a or b)"
