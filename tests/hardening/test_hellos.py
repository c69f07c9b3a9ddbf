"""Attacks with the first message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import NOBODY, frame
from waiting import until
from websockets.frames import Opcode

if TYPE_CHECKING:
    from hardening.attacks import Attack

MALFORMED = {
    "truncated": '{"token": "',
    "empty": "{}",
    "token of the wrong type": '{"token": 1}',
    "token null": '{"token": null}',
    "token in a list": '{"token": ["abcd"]}',
    "token with a lone surrogate": '{"token": "\\ud800"}',
    "ticket of the wrong type": '{"ticket": {}}',
    "token and ticket at once": '{"token": "abcd", "ticket": "abcd"}',
    "since a number": '{"token": "abcd", "since": 1}',
    "since null": '{"token": "abcd", "since": null}',
    "epoch a number": '{"token": "abcd", "epoch": 1}',
    "garbage behind it": '{"token": "abcd"} {"token": "abcd"}',
    "not a number": '{"token": "abcd", "other": NaN}',
    "nested without end": '{"token":' + "[" * 4000,
    "nested deeply": '{"token": "abcd", "other": ' + "[" * 2000 + "]" * 2000 + "}",
}


@pytest.mark.parametrize("hello", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_hello(attack: Attack, hello: str) -> None:
    """Whoever sends a hello that can't be read is closed with 4400."""
    await attack.closed(await attack.upgraded(frame(hello)), 4400)


async def test_binary_first_message(attack: Attack) -> None:
    """A first message that is not text is a bad hello, even with a good token in it."""
    token = attack.house.token("nadia")
    await attack.closed(await attack.upgraded(frame(token, Opcode.BINARY)), 4400)


async def test_ticket(attack: Attack) -> None:
    """A ticket that is made up is refused like a token that is not valid."""
    ticket = json.dumps({"ticket": attack.house.secret("a-ticket-that-nobody-gave-out")})
    await attack.denied(await attack.upgraded(frame(ticket)), "invalid")


@pytest.mark.long
async def test_no_hello(attack: Attack) -> None:
    """Whoever says nothing after the handshake, or half a hello, is closed with 4408 in time."""
    attackers = [await attack.upgraded(), await attack.upgraded(frame("{", fin=False))]
    for attacker in attackers:
        close = await attacker.end()
        assert close is not None
        assert close.code == 4408
    await attack.logged("connection.closed", "connection.closed")
    assert attack.counted("connections_closed_total", code="4408") == 2


ABSURD = {
    "empty": "",
    "too short": "abc",
    "NUL": "\0" * 40,
    "emoji": "\N{COLLISION SYMBOL}" * 100,
    "4 KiB": "x" * 4096,
    "a JSON array": '["a-token-in-a-list"]',
    "a JSON string": '"a-token-in-quotes"',
    "null": "null",
    "a hello behind a byte order mark": '\ufeff{"token": "a-token-behind-a-mark"}',
    "lines": "a-token-in\nlines: of an HTTP header",
    "SQL": "'; DROP TABLE auth_user; --",
    "a format": "%s%s%s%n {0.__class__}",
}


@pytest.mark.parametrize("token", ABSURD.values(), ids=ABSURD)
async def test_absurd_token(attack: Attack, token: str) -> None:
    """A first message that can't be a token is refused as one that is not valid."""
    if len(token) > 10:
        attack.house.secret(token)
    await attack.denied(await attack.upgraded(frame(token)), "invalid")


@pytest.mark.parametrize("token", [ABSURD["NUL"], ABSURD["emoji"], "x" * 3000, "["])
async def test_absurd_token_in_a_hello(attack: Attack, token: str) -> None:
    """The same goes for a hello."""
    hello = json.dumps({"token": token}, ensure_ascii=False)
    await attack.denied(await attack.upgraded(frame(hello)), "invalid")


# Prints a token that was made before SESAME_MAX_AGE.
LATE = """
import sesame.tokens_v2, time, types
from unittest import mock
past = types.SimpleNamespace(time=lambda: time.time() - 31)
with mock.patch.object(sesame.tokens_v2, "time", past):
    print(sesame.tokens_v2.create_token(User.objects.get(username="nadia"), "notifyd"), end="")
"""
FIRST_VERSION = """
import sesame.tokens_v1
print(sesame.tokens_v1.create_token(User.objects.get(username="nadia")), end="")
"""


async def test_expired_token(attack: Attack) -> None:
    """A token older than SESAME_MAX_AGE is refused as expired."""
    token = attack.house.secret(attack.house.site.run(LATE))
    await attack.denied(await attack.upgraded(frame(token)), "expired")


async def test_forged_signature(attack: Attack) -> None:
    """A token of this moment that nobody signed is refused as not valid."""
    token = attack.house.token("admin")
    forged = attack.house.secret(token[:-6] + token[-6:].swapcase()[::-1])
    await attack.denied(await attack.upgraded(frame(forged)), "invalid")


async def test_token_of_nobody(attack: Attack) -> None:
    """A token for a user who doesn't exist is refused as any other forged one."""
    token = attack.house.secret(attack.house.site.run(NOBODY))
    await attack.denied(await attack.upgraded(frame(token)), "invalid")


async def test_token_of_an_inactive_user(attack: Attack) -> None:
    """A good token of a user who may not log in is refused as inactive."""
    token = attack.house.token("ines")
    await attack.denied(await attack.upgraded(frame(token)), "inactive")


async def test_token_of_the_first_version(attack: Attack) -> None:
    """A token of version 1, which has no scope, is refused where SESAME_TOKENS has only 2."""
    token = attack.house.secret(attack.house.site.run(FIRST_VERSION))
    await attack.denied(await attack.upgraded(frame(token)), "invalid")


@pytest.mark.parametrize("scope", ["", "download"])
async def test_token_for_another_purpose_in_a_hello(attack: Attack, scope: str) -> None:
    """A token without the scope notifyd is refused in a hello."""
    hello = json.dumps({"token": attack.house.token("nadia", scope)})
    await attack.denied(await attack.upgraded(frame(hello)), "invalid")


async def test_token_for_another_purpose(attack: Attack) -> None:
    """A token with another scope is refused as a bare first message too."""
    token = attack.house.token("nadia", "download")
    await attack.denied(await attack.upgraded(frame(token)), "invalid")


@pytest.mark.parametrize("scope", ["", "notifyd"])
async def test_bare_token(attack: Attack, scope: str) -> None:
    """A bare token is fine without a scope, as the guide has it, and with ours."""
    attacker = await attack.upgraded(frame(attack.house.token("omar", scope)))
    await until(lambda: attack.counted("authentications_total", result="ok"))
    await attack.witness.sees(attack.house)
    event = await attacker.frame()
    assert event is not None
    assert json.loads(bytes(event.data))["after"] == "the attack"
    await attacker.send(frame(b"\x03\xe8", Opcode.CLOSE))
    await attack.closed(attacker, 1000)
