"""Waiting for a condition: what a test does instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Short enough not to slow a test down, long enough to leave the processor to what is waited for.
PAUSE = 0.005


async def until(
    condition: Callable[[], Any | Awaitable[Any]],
    timeout: float = 10,  # noqa: ASYNC109 - the test reads best with it in the call.
) -> Any:
    """Wait until the condition, a plain or an async callable, is true, and return its value.

    Raises AssertionError with the condition's source after `timeout` seconds. Whatever the
    condition raises passes.
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            # An answer that never comes is the failure most often waited for in vain.
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + timeout):
                    value = await value
            except TimeoutError:
                value = "no answer"
                raise _failure(condition, value, timeout) from None
        if value:
            return value
        if time.monotonic() > end:
            raise _failure(condition, value, timeout)
        await asyncio.sleep(PAUSE)


def wait_until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    """Do the same where no event loop runs."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise _failure(condition, value, timeout)
        time.sleep(PAUSE)
    return value


def _failure(condition: Callable[[], Any], value: object, timeout: float) -> AssertionError:
    try:
        source = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        # Partial objects and builtins have no source; their repr says enough.
        source = repr(condition)
    return AssertionError(f"not true within {timeout} s, last value {value!r}: {source}")
