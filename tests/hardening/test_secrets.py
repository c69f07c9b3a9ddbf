"""What must not be told to whoever may read logs and metrics."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import frame

if TYPE_CHECKING:
    from hardening.attacks import Attack


async def test_tokens_and_cookies_are_not_logged(attack: Attack) -> None:
    """At level debug, too, no line has a token, a cookie or a password, whatever became of it."""
    house = attack.house
    good, foreign, inactive = (house.token(name) for name in ("omar", "omar", "ines"))
    tokens = [good, foreign[:-1], foreign + "A", "x" + foreign, inactive, f" {inactive}\n"]
    for token in tokens:
        house.secret(token.strip())
        for message in (token, json.dumps({"token": token}), f'{{"token": "{token}"'):
            attacker = await attack.upgraded(frame(message))
            await attacker.send(frame(token))
            attacker.socket.close()
    lines = len(tokens) * 3
    await attack.witness.sees(house)
    assert attack.counted("connections_opened_total") == lines
    assert house.daemon.log.count('"connection.opened"') > lines


@pytest.mark.long
async def test_commands_show_no_secrets(attack: Attack) -> None:
    """Commands, metrics and health checks name no password, token or key of the site."""
    house = attack.house
    await (await house.enter("omar")).client.close()
    shown = [house.daemon.get(path)[1] for path in ("/metrics", "/readyz", "/livez")]
    for command in ("config", "check", "status"):
        done = await asyncio.to_thread(house.daemon.command, command)
        assert done.returncode == 0, done.stderr
        shown += [done.stdout, done.stderr]
    assert [secret for secret in house.secrets for text in shown if secret in text] == []
