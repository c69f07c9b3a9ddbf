"""A publisher of numbered events, at a steady rate and through every outage of its Redis.

Usage: publisher.py URL COUNT RATE

Each number is written to the stream once, with no repetition and RATE of them a second. What
became of it is a line of the output: the number and the entry's id or, where Redis gave no answer
and so nobody knows, a dash.
"""

from __future__ import annotations

import json
import sys
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

STREAM = "{notifyd}:events"
PATIENCE = 0.5
PAUSE = 0.02


def write(client: redis.Redis, number: int) -> str | None:
    """Return the id of the number's entry, a dash if it is unknown, None if there is none."""
    try:
        client.ping()
    except redis.RedisError:
        return None
    try:
        event = json.dumps({"number": number})
        return str(client.xadd(STREAM, {"event": event, "to": '{"everyone": true}'}))
    except redis.RedisError:
        return "-"


def main(url: str, count: int, rate: float) -> None:
    """Write all numbers, waiting with the next one while there is no Redis to write it to."""
    client = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )
    due = time.monotonic()
    for number in range(count):
        # After an outage it goes on at the same rate, and does not catch up.
        due = max(due + 1 / rate, time.monotonic())
        time.sleep(max(0, due - time.monotonic()))
        while (outcome := write(client, number)) is None:
            time.sleep(PAUSE)
        sys.stdout.write(f"{number} {outcome}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
