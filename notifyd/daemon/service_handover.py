"""How the service is followed by another process, and how it follows one, without a disconnect.

The predecessor stops the relay between two batches, waits a moment until nobody owes anything, and
gives its clients' sockets and their state to the service manager, which keeps them until the next
process starts, or straight to a process that has asked for them. The successor takes the clients as
ones that are behind, from where the relay was.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

import notifyd
from notifyd.core.handover import State, Unreadable, decode, encode
from notifyd.daemon import control, handover

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.systemd_sockets import Passed
    from notifyd.daemon.systemd_store import Store

log = structlog.stdlib.get_logger()

_SETTLE: Final = 2.0
"""Seconds in which logins under way end and clients take what they owe."""

_ORDERED: Final = 10.0
"""Seconds in which a stop that was announced as a restart must come."""

_PATIENCE: Final = 30.0
"""Seconds that a successor waits for the running daemon."""

_KEPT: Final = 5.0
"""Seconds that the service manager may take to store the descriptors."""


class Handover:
    """The one hand-over at the end of this process; `stop` begins it."""

    def __init__(self, parts: Assembly, store: Store, *, stop: Callable[[], None]) -> None:
        self._parts = parts
        self._store = store
        self._stop = stop
        self._ordered = -_ORDERED
        self._successor: socket.socket | None = None
        self._parcel: list[int] = []

    @property
    def wanted(self) -> bool:
        """Whether the stop that has come is one with a successor."""
        restart = time.monotonic() - self._ordered < _ORDERED
        return self._successor is not None or restart

    async def command(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer `handover`: to the successor waiting at the path `to`, at once.

        Without it, to the service manager, when the next signal to stop comes.
        """
        path = arguments.get("to")
        if path is None:
            if not self._store.available:
                raise control.ControlError(
                    "no service manager started this daemon and would keep its connections:"
                    " start its successor with `notifyd run --take-over`"
                )
            self._ordered = time.monotonic()
        elif not isinstance(path, str):
            raise control.ControlError("`to` is the path of a socket")
        else:
            try:
                self._successor = handover.reach(path)
            except handover.HandoverError as error:
                raise control.ControlError(str(error)) from error
            self._stop()
        return {"connections": len(self._parts.server.clients)}

    async def prepare(self, listeners: Sequence[socket.socket]) -> None:
        """Let everything come to rest, and take the clients out; nothing may run here after that.

        The listening sockets go to a successor that has asked; a service manager has its own.
        """
        started = time.monotonic()
        parts, succession = self._parts, self._parts.succession
        until = asyncio.get_running_loop().time() + _SETTLE
        await succession.finish_logins(until)
        # From here on nothing is relayed, and so nothing written, by this process.
        await parts.relay.one_at_a_time.acquire()
        await succession.finish_writes(until)
        clients = succession.give(self._enqueue)
        state = State(notifyd.__version__, parts.relay.epoch, parts.relay.position, clients)
        self._parcel.insert(0, handover.memory(encode(state)))
        if self._successor is not None:
            self._parcel += [os.dup(each.fileno()) for each in listeners]
        log.info(
            "handover.prepared",
            clients=len(clients),
            closed=succession.results["closed"],
            last_id=parts.relay.last_id,
            seconds=round(time.monotonic() - started, 3),
        )

    def deliver(self) -> None:
        """Give what was prepared to the successor; the last thing that this process does."""
        if not self._parcel:
            return
        try:
            if self._successor is None:
                state, queue = self._parcel
                self._store.keep(handover.STATE, state)
                self._store.keep(handover.CLIENTS, queue)
                self._store.settle(_KEPT)
            else:
                handover.give(self._successor, self._parcel)
        except (OSError, handover.HandoverError) as error:
            log.error("handover.failed", detail=str(error))  # noqa: TRY400 - the words say all

    def _enqueue(self, sockets: Sequence[socket.socket]) -> int:
        queue, taken = handover.enqueue(sockets)
        self._parcel.append(queue.detach())
        return taken


class Inheritance:
    """What a predecessor has left: the state, the clients' queue, and listening sockets."""

    def __init__(
        self, state: int, queue: socket.socket, listeners: Sequence[socket.socket] = ()
    ) -> None:
        self._sockets = handover.dequeue(queue)
        self._data = handover.contents(state)
        os.close(state)
        self._state: State | None = None
        self.listeners = listeners

    def resume(self, parts: Assembly) -> None:
        """Be where the predecessor was, before anything runs and anybody is let in."""
        try:
            self._state = decode(self._data, parts.vocabulary)
        except Unreadable as error:
            log.error("handover.unreadable", detail=str(error))  # noqa: TRY400 - the words say all
        else:
            parts.resume(self._state)

    async def take(self, parts: Assembly) -> None:
        """Take the clients, or close them if nobody knows how far they were."""
        started = time.monotonic()
        succession = parts.succession
        if self._state is None:
            await succession.refuse(self._sockets)
        else:
            await succession.take(self._sockets, self._state.clients)
        log.info(
            "handover.taken",
            clients=succession.results["taken"],
            refused=succession.results["refused"],
            lost=succession.results["lost"],
            last_id=parts.relay.last_id,
            seconds=round(time.monotonic() - started, 3),
        )


def kept(passed: Passed, store: Store) -> Inheritance | None:
    """Return what the service manager has kept for this process; None if there is nothing."""
    states, queues = passed.take(handover.STATE), passed.sockets(handover.CLIENTS)
    for name in (handover.STATE, handover.CLIENTS):
        if store.available:
            store.forget(name)
    # After a predecessor that ended in the middle there may be one without the other.
    return Inheritance(states[-1], queues[-1]) if states and queues else None


async def ask(path: Path) -> Inheritance | None:
    """Ask the daemon whose control socket is at a path for what it has; None if there is none.

    Raises HandoverError, or ControlError with the daemon's own words.
    """
    if not control.answers(str(path)):
        log.warning("handover.alone", path=str(path))
        return None
    with handover.Reception(f"{path}.{os.getpid()}") as reception:
        await control.ask(str(path), "handover", to=reception.path)
        return Inheritance(*await asyncio.to_thread(reception.receive, _PATIENCE))
