"""The root of the errors that end a command."""

from __future__ import annotations

import re

import pytest

from notifyd.core import faults
from notifyd.core.faults import Fault
from notifyd.daemon.auth_project import SetupError
from notifyd.daemon.bus import BusError
from notifyd.daemon.control import ControlError
from notifyd.daemon.handover import HandoverError
from notifyd.daemon.listener import ListenError

ERRORS = {BusError, ControlError, HandoverError, ListenError, SetupError}


@pytest.mark.parametrize("error", sorted(ERRORS, key=str), ids=lambda error: error.__name__)
def test_text(error: type[Fault]) -> None:
    """Each of them is a fault, and says what its text says."""
    assert issubclass(error, Fault)
    assert str(error("Redis is full")) == "Redis is full"


def test_tree() -> None:
    """The module's docstring shows all of them."""
    names = re.findall(r"^ +(\w+Error) ", faults.__doc__ or "", re.MULTILINE)
    assert names == sorted(error.__name__ for error in ERRORS)
