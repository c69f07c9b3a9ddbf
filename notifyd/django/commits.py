"""The controls of one transaction: one entry of the bus, written right after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from notifyd.django import tracing
from notifyd.django.controls import Controls
from notifyd.django.outbox import outbox
from notifyd.django.settings import load

if TYPE_CHECKING:
    from notifyd.django.bus import BusError
    from notifyd.django.settings import Settings


def publish(controls: Controls, *, using: str | None, required: bool = False) -> None:
    """Write controls to the bus once the transaction is committed, or at once where there is none.

    All of one transaction are one entry, in front of whatever else is to be done on its commit: its
    events among it, and what others do there, which may take long or fail. Those of a savepoint
    that is rolled back are left out.

    With `required`, PublishError or PublishUnknown follows the commit if they were not written at
    once. They are repeated all the same.
    """
    settings = load()
    if not controls or not settings.enabled:
        return
    connection = transaction.get_connection(using)
    hooks: list[Any] = connection.run_on_commit
    joins = connection.in_atomic_block and not _is_captured(connection)
    savepoints, first = _front(hooks) if joins else (set(), None)
    if first and savepoints == set(connection.savepoint_ids) and first.required == required:
        # They stand or fall together.
        first.controls.merge(controls)
        return
    hook = _Hook(settings, controls, before=first, required=required)
    transaction.on_commit(hook.run, using=using, robust=not required)
    if joins:
        # Django calls them in the order of this list, and takes out of it what is rolled back.
        hooks.insert(0, hooks.pop())


def _is_captured(connection: Any) -> bool:
    # A TestCase never commits; its captureOnCommitCallbacks() finds what is new at the list's end.
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


def _front(hooks: list[Any]) -> tuple[set[str], _Hook | None]:
    """Return the hook of ours that is first in Django's list, and the savepoints it is in."""
    if not hooks:
        return set(), None
    savepoints, function, *_ = hooks[0]
    hook = getattr(function, "__self__", None)
    return savepoints, hook if isinstance(hook, _Hook) else None


class _Hook:
    """Controls of one savepoint, and the hook `before` it that was in front when they came.

    That one is surely called if this one is: its savepoint was over by then, or contains this one.
    The first of them to be called writes for all, which is the last that was made.
    """

    def __init__(
        self, settings: Settings, controls: Controls, *, before: _Hook | None, required: bool
    ) -> None:
        self.controls = controls
        self.required = required
        self._settings = settings
        self._parent = tracing.parent([])
        self.before = before
        self.done = False
        self.error: BusError | None = None

    def run(self) -> None:
        """Write the entry, if no other has, and raise what went wrong if that is required."""
        if not self.done:
            self._write()
        if self.required and self.error is not None:
            raise self.error

    def _write(self) -> None:
        merged, hooks = Controls(), []
        hook: _Hook | None = self
        while hook is not None and not hook.done:
            merged.merge(hook.controls)
            hooks.append(hook)
            hook = hook.before
        error = outbox.send(self._settings, merged, within=self._parent)
        for each in hooks:
            each.done, each.error = True, error
