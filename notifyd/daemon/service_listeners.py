"""Where the service listens: at addresses of its own, and at sockets that others have opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from notifyd.core.addresses import parse_address
from notifyd.daemon import listener
from notifyd.daemon.config import ConfigError

if TYPE_CHECKING:
    import contextlib
    import socket
    from collections.abc import Callable, Sequence

    from notifyd.daemon.config import Config
    from notifyd.daemon.endpoints import Endpoints
    from notifyd.daemon.systemd_sockets import Passed

log = structlog.stdlib.get_logger()


class Listeners:
    """The public listeners and the admin endpoints.

    `inherited` are the predecessor's own sockets, `passed` those of the service manager. An address
    of the configuration at which one of them listens already is not opened anew.
    """

    def __init__(
        self, config: Config, passed: Passed, inherited: Sequence[socket.socket] = ()
    ) -> None:
        self._config = config
        self._passed = passed.listeners()
        self._rest = passed
        self._inherited = inherited
        self._used: set[socket.socket] = set()
        self.public: list[listener.Listener] = []

    async def open(
        self,
        stack: contextlib.AsyncExitStack,
        endpoints: Endpoints,
        accepted: Callable[[socket.socket, str], None],
    ) -> None:
        """Open everything; the stack closes it. Raises ListenError, ConfigError."""
        for sockets in self._passed.values():
            for sock in sockets:
                stack.callback(sock.close)
        await self._open_admin(stack, endpoints)
        addresses = self._config.server.listen
        found = [sock for text in addresses for sock in self._find("server.listen", text)]
        # One may have been meant twice, by its name and by its address.
        for sock in dict.fromkeys(found):
            lent = any(sock in sockets for sockets in self._passed.values())
            opened = listener.Listener(sock, accepted, lent=lent)
            stack.callback(opened.close)
            self.public.append(opened)
            log.info("listener.opened", address=opened.address)
        log.info("listener.opened", address=endpoints.address, serves="admin")
        self._close_unused()

    async def _open_admin(self, stack: contextlib.AsyncExitStack, endpoints: Endpoints) -> None:
        text = self._config.admin.listen
        address = parse_address(text)
        open_already = address.name or any(
            listener.name(sock) in {address.path, (address.host, address.port)}
            for sockets in self._passed.values()
            for sock in sockets
        )
        try:
            if open_already:
                await endpoints.start(lent=self._find("admin.listen", text))
            else:
                await endpoints.start(
                    host=address.host, port=address.port, path=address.path or None
                )
        except OSError as error:
            words = f"can't listen on {text} ([admin] listen): {error.strerror}"
            raise listener.ListenError(words) from error
        stack.push_async_callback(endpoints.close)

    def _find(self, key: str, text: str) -> list[socket.socket]:
        """Return the sockets of an address of the configuration."""
        address = parse_address(text)
        if not address.name:
            others = [*self._inherited, *(sock for each in self._passed.values() for sock in each)]
            found = listener.bind(
                address.host,
                address.port,
                address.path or None,
                inherited=others,
                reuse_port=self._config.server.reuse_port,
            )
        elif address.name in self._passed:
            found = self._passed[address.name]
        else:
            there = ", ".join(sorted(self._passed)) or "none at all"
            fault = (
                f"{key} = {text}: systemd has passed no socket of that name (there is: {there});"
                f" write FileDescriptorName={address.name} into a socket unit, and have the service"
                " require it, or write an address here."
            )
            raise ConfigError([fault])
        self._used.update(found)
        return found

    def _close_unused(self) -> None:
        for name, sockets in self._passed.items():
            for sock in sockets:
                if sock not in self._used:
                    log.warning("listener.unused", name=name, address=listener.name(sock))
                    sock.close()
        for name in self._rest.names:
            log.warning("listener.unused", name=name, address="none: it does not listen")
        self._rest.close()
