from __future__ import annotations

import pytest

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.login import Login, Refused, Result
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
