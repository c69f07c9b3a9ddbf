"""Logs a user of this site in, and prints what the daemon makes of it as JSON."""

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


def prepare() -> tuple[str, str]:
    """Create the tables and a user, and return the user's key and a content type's."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - not before set-up
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415 - the same
    from django.core.management import call_command  # noqa: PLC0415 - the same

    call_command("migrate", run_syncdb=True, verbosity=0)
    users: Any = get_user_model()
    user = users(email=EMAIL, is_superuser=True) if hasattr(users, "groups") else users(email=EMAIL)
    user.save()
    return str(user.pk), str(ContentType.objects.get_for_model(users).pk)


def deactivate() -> None:
    """Have no active users."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - not before set-up
    from django.db import connections  # noqa: PLC0415 - the same

    users: Any = get_user_model()
    users.objects.update(is_active=False)
    connections.close_all()


async def main(pk: str, content_type: str, token: str) -> dict[str, Any]:
    """Log in twice, the second time as an inactive user."""
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
    await asyncio.to_thread(deactivate)
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
    }


if __name__ == "__main__":
    auth.setup("settings", str(Path(__file__).parent))
    key, shown = prepare()
    print(json.dumps(asyncio.run(main(key, shown, auth.create_token(EMAIL)))))  # noqa: T201 - it is for the test
