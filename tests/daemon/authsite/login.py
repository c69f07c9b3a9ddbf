"""Logs users of this site in, and prints what the daemon makes of it as JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from notifyd.core.audience import Vocabulary
from notifyd.core.events import Rule
from notifyd.core.limits import Buckets
from notifyd.daemon import auth

EMAIL = "someone@example.org"
OTHER = "another@example.org"


def prepare() -> tuple[str, str]:
    """Create the tables and two users, and return the first one's key and a content type's."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - not before set-up
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415 - the same
    from django.core.management import call_command  # noqa: PLC0415 - the same

    call_command("migrate", run_syncdb=True, verbosity=0)
    users: Any = get_user_model()
    rights = {"is_superuser": True} if hasattr(users, "groups") else {}
    user = users.objects.create(email=EMAIL, **rights)
    users.objects.create(email=OTHER, **rights)
    return str(user.pk), str(ContentType.objects.get_for_model(users).pk)


def deactivate() -> None:
    """Have no active users."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - not before set-up
    from django.db import connections  # noqa: PLC0415 - the same

    users: Any = get_user_model()
    users.objects.update(is_active=False)
    connections.close_all()


async def main(pk: str, content_type: str, token: str, other: str) -> dict[str, Any]:
    """Log in alone, with many others, and as an inactive user; read the user in between."""
    authenticator = auth.Authenticator(
        Vocabulary(),
        threads=1,
        timeout=10,
        statement_timeout=5,
        unscoped=True,
        failures=Buckets(1, 1, 1),
        observe=lambda _seconds: None,
    )
    login = await authenticator.authenticate(token, bare=False, address=None)
    crowd = await asyncio.gather(
        *(authenticator.authenticate(each, bare=False, address=None) for each in [token, other] * 5)
    )
    _, standings = await authenticator.read([pk, *(each.user for each in crowd)])
    await asyncio.to_thread(deactivate)
    _, gone = await authenticator.read([pk])
    try:
        await authenticator.authenticate(token, bare=False, address=None)
    except auth.Refused as refused:
        inactive = refused.result.value
    await authenticator.close()
    return {
        "same_key": login.user == pk,
        "groups": sorted(login.audience.groups),
        "permissions": login.audience.permissions.bit_count(),
        "superuser": login.audience.superuser,
        "shown": login.audience.sees(Rule(content_types=frozenset({content_type}))),
        "inactive": inactive,
        "together": {each.audience for each in crowd} == {login.audience},
        "read": {each.audience for each in standings.values() if each} == {login.audience},
        "digest": {each.digests for each in standings.values() if each} >= {(login.digest,)},
        "gone": gone == {pk: None},
    }


if __name__ == "__main__":
    auth.setup("settings", str(Path(__file__).parent))
    key, shown = prepare()
    tokens = auth.create_token(EMAIL), auth.create_token(OTHER)
    print(json.dumps(asyncio.run(main(key, shown, *tokens))))  # noqa: T201 - it is for the test
