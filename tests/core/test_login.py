from __future__ import annotations

import dataclasses

import pytest

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.login import Login, Outcome, Refused, Result, Standing
from notifyd.core.protocol import CloseCode, Reconnect


def test_the_labels_of_the_metric() -> None:
    """Authentications are counted as one of seven results, by the names that are documented."""
    names = "ok expired invalid inactive timeout rate_limited error"
    assert [str(result) for result in Result] == names.split()


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result.EXPIRED, 4401),
        (Result.INVALID, 4401),
        (Result.INACTIVE, 4401),
        (Result.TIMEOUT, 1013),
        (Result.ERROR, 1013),
        (Result.RATE_LIMITED, 4429),
    ],
)
def test_what_the_client_is_told(result: Result, code: int) -> None:
    """4401: authentication failed; 1013: database unreachable or timed out; 4429: too many."""
    assert Refused(result).code == code


def test_why_is_not_told() -> None:
    """A client learns whether to fetch a new token, not what was wrong with the old one."""
    codes = {Refused(r).code for r in (Result.EXPIRED, Result.INVALID, Result.INACTIVE)}
    assert codes == {CloseCode.AUTHENTICATION_FAILED}
    assert CloseCode.AUTHENTICATION_FAILED.reconnect is Reconnect.NEW_TOKEN


def test_the_text_is_for_the_log() -> None:
    """A refusal says in words what happened, and at least its result."""
    refused = Refused(Result.TIMEOUT, "the database took longer than 20 s")
    assert (refused.result, str(refused)) == (
        Result.TIMEOUT,
        "the database took longer than 20 s",
    )
    assert str(Refused(Result.INVALID)) == "invalid"


def test_a_login_is_a_user_and_an_audience() -> None:
    """Logins of the same user with the same audience are equal."""
    audience = Audience.build(Vocabulary(), groups=[1])
    assert Login("7", audience) == Login("7", audience) != Login("8", audience)


def test_the_outcomes_of_a_recheck() -> None:
    """What became of reading a user anew is counted as one of seven outcomes."""
    names = "kept changed revoked stale error timeout gone"
    assert [str(outcome) for outcome in Outcome] == names.split()


def test_what_a_login_is_true_of() -> None:
    """A login that was made of nothing but a user and an audience is true as of no position."""
    login = Login("7", Audience.build(Vocabulary()))
    assert (login.digest, login.auth_time, login.read_at, login.as_of) == ("", 0.0, 0.0, None)


@pytest.mark.parametrize(
    ("digest", "as_of"), [("other", "1-0"), ("digest", None), ("digest", "1-1"), ("digest", "1-0")]
)
def test_logins_differ_by_what_was_read(digest: str, as_of: str | None) -> None:
    """Two logins are equal only if they were read with the same password at the same position."""
    audience = Audience.build(Vocabulary())
    login = Login("7", audience, digest="digest", as_of="1-0")
    same = (digest, as_of) == ("digest", "1-0")
    assert (login == Login("7", audience, digest=digest, as_of=as_of)) is same


def test_a_standing_may_have_no_digest() -> None:
    """Where users have no password, the database says only what they may see."""
    audience = Audience.build(Vocabulary())
    assert Standing(audience) == Standing(audience, ()) != Standing(audience, ("digest",))


@pytest.mark.parametrize("name", ["audience", "digest", "auth_time", "read_at", "as_of"])
def test_a_login_is_renewed_and_not_changed(name: str) -> None:
    """What is known of a user is replaced as a whole, never in part under somebody's hands."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Login("7", Audience.build(Vocabulary())), name, None)
