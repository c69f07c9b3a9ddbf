from __future__ import annotations

from notifyd.core.options_server import Server


def test_what_clients_may_owe() -> None:
    """A client owes 256 KiB before it is behind, 1 MiB if it can't be, and all owe 256 MiB."""
    server = Server()
    owed = (server.buffer, server.bare_buffer, server.total_buffer)
    assert owed == (256 * 1024, 1024 * 1024, 256 * 1024 * 1024)
    assert (server.history, server.progress_timeout) == (32 * 1024 * 1024, 20)
