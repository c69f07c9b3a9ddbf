"""The competitor: a server built as the "Integrate with Django" guide of websockets describes.

`websockets.serve`, one handler task per client, Redis Pub/Sub, `websockets.broadcast`; nothing is
tuned for or against it. At SIGUSR1 it prints how many clients are in, which nobody could know from
outside. Usage: guide_server.py HOST PORT REDIS_URL
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import django
import redis.asyncio
from websockets.asyncio.server import ServerConnection, broadcast, serve

django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402 - needs django.setup()
from sesame.utils import get_user  # noqa: E402 - the same

visible_to: dict[ServerConnection, set[int]] = {}


def visible_content_types(user: Any) -> set[int]:
    """Return the ids of the content types that the user may view or change."""
    return {
        each.pk
        for each in ContentType.objects.all()
        if user.has_perm(f"{each.app_label}.view_{each.model}")
        or user.has_perm(f"{each.app_label}.change_{each.model}")
    }


async def serve_client(connection: ServerConnection) -> None:
    """Authenticate a client by its first message, and keep it until it leaves."""
    token = await connection.recv()
    user = await asyncio.to_thread(get_user, token)
    if user is None:
        await connection.close(1011, "authentication failed")
        return
    visible_to[connection] = await asyncio.to_thread(visible_content_types, user)
    try:
        await connection.wait_closed()
    finally:
        del visible_to[connection]


async def relay_events(url: str) -> None:
    """Broadcast what is published to the clients that may see it."""
    subscription = redis.asyncio.from_url(url).pubsub()
    await subscription.subscribe("events")
    async for message in subscription.listen():
        if message["type"] == "message":
            payload = message["data"].decode()
            content_type = json.loads(payload)["content_type_id"]
            broadcast((c for c, ids in visible_to.items() if content_type in ids), payload)


async def main(host: str, port: int, url: str) -> None:
    """Serve until killed."""
    signal.signal(signal.SIGUSR1, lambda *_: print(len(visible_to), flush=True))
    async with serve(serve_client, host, port, backlog=4096):
        await relay_events(url)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
