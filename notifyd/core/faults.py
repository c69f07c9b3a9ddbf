"""What ends a command: the root of the errors whose text is for whoever typed it.

    Fault
        BusError        the bus can't be used          (daemon/bus.py)
        ControlError    the running daemon, neither    (daemon/control.py)
        HandoverError   clients could not be given     (daemon/handover.py)
        ListenError     an address is not to be had    (daemon/listener.py)
        SetupError      the site can't be used         (daemon/auth_project.py)

What is wrong with a configuration, or with an event, is told by errors of its own.
"""

from __future__ import annotations


class Fault(Exception):  # noqa: N818 - The errors are those below.
    """Something can't be done; the text says what, why and what to do, and names no secret."""
