"""Descriptors that the service manager keeps over a restart (sd_pid_notify_with_fds(3))."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Store:
    """The manager's store of this service's descriptors; `available` where there is a manager.

    sdnotify sends no descriptors. The manager keeps as many as FileDescriptorStoreMax= says and
    closes all others without a word.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract address is written with @ in place of its zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def available(self) -> bool:
        """Whether there is somebody to keep anything."""
        return bool(self._address)

    def keep(self, name: str, descriptor: int) -> None:
        """Have a descriptor passed to the next process, by that name, even if its peer hangs up."""
        self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", [descriptor])

    def forget(self, name: str) -> None:
        """Have the descriptors of that name closed."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def settle(self, patience: float) -> None:
        """Wait until the manager has taken all of that.

        Raises TimeoutError after so many seconds.
        """
        reading, writing = os.pipe()
        try:
            self._send("BARRIER=1", [writing])
        finally:
            os.close(writing)
        try:
            poller = select.poll()
            poller.register(reading, 0)
            # The other end is closed when the manager has come to it.
            if not poller.poll(patience * 1000):
                raise TimeoutError("the service manager does not answer")
        finally:
            os.close(reading)

    def _send(self, message: str, descriptors: Sequence[int] = ()) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._address)
            socket.send_fds(sock, [message.encode()], list(descriptors))
