from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction
from django.test import TestCase
from django.test.utils import override_settings

from notifyd.django import PublishError, notify
from notifyd.django.commits import publish
from notifyd.django.controls import Controls

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams import Stream

    Written = Callable[[], list[dict[str, Any]]]

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")


def recheck(*users: str, using: str | None = None) -> None:
    """Publish the recheck of some users."""
    publish(Controls(users=set(users)), using=using)


def rechecks(*users: str) -> dict[str, Any]:
    """Return the entry with the recheck of some users."""
    return {"recheck": {"users": list(users)}}


def test_without_transaction(written: Written) -> None:
    """Outside a transaction each is written at once."""
    recheck("1")
    assert written() == [rechecks("1")]
    recheck("2")
    assert written() == [rechecks("1"), rechecks("2")]


def test_nothing(written: Written) -> None:
    """Where nothing is asked for, nothing is written."""
    publish(Controls(), using=None)
    assert written() == []


def test_one_entry(written: Written) -> None:
    """All controls of a transaction are one entry, written after the commit."""
    with transaction.atomic():
        recheck("1")
        publish(Controls(groups={"7"}, reauthenticate={"1"}), using=None)
        recheck("2")
        assert written() == []
    assert written() == [
        {"recheck": {"users": ["1", "2"], "groups": ["7"]}, "reauthenticate": {"users": ["1"]}}
    ]


def test_rollback(written: Written) -> None:
    """Of what is rolled back nothing is written, then or later."""
    with transaction.atomic():
        recheck("1")
        transaction.set_rollback(True)
    with transaction.atomic():
        recheck("2")
    assert written() == [rechecks("2")]


def test_savepoints(written: Written) -> None:
    """A savepoint that is rolled back takes its own controls along, and those of no other."""
    with transaction.atomic():
        recheck("1")
        with transaction.atomic():
            recheck("2")
            with transaction.atomic():
                recheck("3")
            with transaction.atomic():
                recheck("not 4")
                transaction.set_rollback(True)
            recheck("5")
        with transaction.atomic():
            recheck("not 6")
            with transaction.atomic():
                recheck("not 7")
            transaction.set_rollback(True)
        recheck("8")
    assert written() == [rechecks("1", "2", "3", "5", "8")]


def test_first_in_a_savepoint(written: Written) -> None:
    """Whether the first of all is kept or not, the others are written as one."""
    for undone in (True, False):
        with transaction.atomic():
            with transaction.atomic():
                recheck("1")
                transaction.set_rollback(undone)
            with transaction.atomic():
                recheck("2")
            recheck("3")
    assert written() == [rechecks("2", "3"), rechecks("1", "2", "3")]


def test_block_without_savepoint(written: Written) -> None:
    """An inner block that has no savepoint belongs to the one around it."""
    with transaction.atomic():
        recheck("1")
        with transaction.atomic(savepoint=False):
            recheck("2")
        recheck("3")
    assert written() == [rechecks("1", "2", "3")]


@pytest.mark.usefixtures("newsroom_on_postgres")
def test_postgres(written: Written) -> None:
    """With PostgreSQL it is the same."""
    with transaction.atomic():
        recheck("1")
        with transaction.atomic():
            recheck("not 2")
            transaction.set_rollback(True)
        with transaction.atomic():
            recheck("3")
        assert written() == []
    assert written() == [rechecks("1", "3")]


def test_before_events(written: Written) -> None:
    """The entry comes before all events of its transaction, even those of before."""
    with transaction.atomic():
        notify({"n": 1}, everyone=True)
        recheck("1")
        notify({"n": 2}, everyone=True)
        with transaction.atomic():
            recheck("2")
    assert written() == [rechecks("1", "2"), {"n": 1}, {"n": 2}]


def test_before_others(written: Written) -> None:
    """What others do on commit comes later, and so can't delay the entry, or prevent it."""
    found = []

    def fail() -> None:
        found.append(written())
        raise RuntimeError

    @transaction.atomic
    def save() -> None:
        transaction.on_commit(fail)
        recheck("1")

    with pytest.raises(RuntimeError):
        save()
    assert found == [[rechecks("1")]]


def test_front_of_others(written: Written) -> None:
    """Somebody else in front makes two entries of it, and takes nothing away."""
    with transaction.atomic():
        recheck("1")
        hooks: list[Any] = connections["default"].run_on_commit
        hooks.insert(0, (set(), lambda: None, False))
        recheck("2")
    assert written() == [rechecks("2"), rechecks("1")]


def test_in_a_callback(written: Written) -> None:
    """What is published on commit is written at once, or with a transaction that begins there."""

    def work() -> None:
        recheck("2")
        with transaction.atomic():
            recheck("3")
            recheck("4")
        notify({"n": 1}, everyone=True)

    with transaction.atomic():
        transaction.on_commit(work)
        recheck("1")
    assert written() == [rechecks("1"), rechecks("2"), rechecks("3", "4"), {"n": 1}]


def test_databases(written: Written, other: str) -> None:
    """Each database has its own transactions, and so its own entry."""
    with transaction.atomic():
        recheck("1")
        with transaction.atomic(using=other):
            recheck("2", using=other)
            recheck("3")
        assert written() == [rechecks("2")]
        recheck("4", using=other)
        assert written()[1:] == [rechecks("4")]
    assert written()[2:] == [rechecks("1", "3")]


def test_manual(written: Written) -> None:
    """Without autocommit there is no telling when it is committed, as Django says."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError):
            recheck("1")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert written() == []


def test_test_case(written: Written) -> None:
    """In a TestCase, which never commits, callbacks can be captured as those of others."""
    around: Any = transaction.atomic()
    around._from_testcase = True
    with around:
        transaction.on_commit(lambda: None)
        recheck("1")
        for user in ("2", "3"):
            with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
                recheck(user)
            assert len(callbacks) == 1
        transaction.set_rollback(True)
    assert written() == [rechecks("2"), rechecks("3")]


def test_disabled(written: Written, stream: Stream) -> None:
    """With ENABLED False nothing is written or kept."""
    with override_settings(NOTIFYD={"ENABLED": False}), stream.server.stopped():
        publish(Controls(users={"1"}), using=None, required=True)
    assert written() == []


def test_required(stream: Stream) -> None:
    """Whoever requires it hears after the commit that Redis was away; the others don't."""
    done = []

    @transaction.atomic
    def save(name: str, *, required: bool) -> None:
        publish(Controls(disconnect={"1"}), using=None, required=required)
        # It is this one that writes, for both.
        recheck("2")
        transaction.on_commit(lambda: done.append(name))

    with stream.server.stopped():
        save("not required", required=False)
        with pytest.raises(PublishError):
            save("required", required=True)
    assert done == ["not required"]


def test_savepoints_by_hand(written: Written) -> None:
    """What is undone by hand is told, as Django takes no callback back for that."""
    with transaction.atomic():
        savepoint = transaction.savepoint()
        recheck("1")
        transaction.savepoint_rollback(savepoint)
    assert written() == [rechecks("1")]
