"""One client's conversation: bytes in, what happened out, and bytes to send.

`Session` drives websockets' Sans-I/O `ServerProtocol`, which judges every byte of RFC 6455, and
adds what notifyd asks of a client: a first message, then near silence. It has no clock, no
socket and no opinion of its own on who may connect: the edge reads what happened and answers
with `accept`, `refuse`, `open` or `close`.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

from notifyd.core.happenings import (
    Acknowledged,
    Closing,
    Greeted,
    Happening,
    Ignored,
    NotUpgraded,
    Phase,
    Requested,
)
from notifyd.core.limits import Bucket
from notifyd.core.protocol import BadHello, CloseCode, parse_ack, parse_hello, size_of

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence

    from websockets.http11 import Response
    from websockets.typing import Origin

_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Policy:
    """What every session of a server has in common.

    `origins` are those that websockets' `ServerProtocol` accepts (None among them: requests
    without one), `max_message` is in bytes, `messages_per_second` is what a client may send once
    it was greeted, in a steady flow and as a burst.
    """

    origins: Sequence[Origin | re.Pattern[str] | None]
    max_message: int | None = 4096
    messages_per_second: float = 10.0


class Session:
    """The state machine of one conversation: a new one, or one that has come as far as `phase`."""

    __slots__ = (
        "_bucket",
        "_early",
        "_message",
        "_policy",
        "_protocol",
        "_request",
        "_unparsed",
        "_unsent",
        "awaiting_pong",
        "phase",
    )

    def __init__(self, policy: Policy, phase: Phase = Phase.HANDSHAKE) -> None:
        self._policy = policy
        if phase is Phase.HANDSHAKE:
            self._protocol: Protocol = ServerProtocol(
                origins=policy.origins, max_size=policy.max_message
            )
        else:
            self._protocol = _open(policy)
        # Bytes of a frame that is not complete yet.
        self._unparsed = 0
        self._request: Request | None = None
        # During the handshake: its last bytes, then what came too early behind them.
        self._early = b""
        self._unsent: list[bytes] = []
        # A message that comes in fragments, with the opcode of its first one; rarely any.
        self._message: tuple[Opcode, bytearray] | None = None
        # Made when a client first says more than it needs to: nearly none ever does.
        self._bucket: Bucket | None = None
        self.phase = phase
        self.awaiting_pong = False

    @property
    def whole(self) -> bool:
        """Whether no part of a request or a message has come: another process can take over."""
        if self.phase is Phase.HANDSHAKE:
            return not self._early and self._request is None
        return not self._unparsed and self._message is None

    @property
    def upgraded(self) -> bool:
        """Whether the opening handshake has succeeded."""
        return not isinstance(self._protocol, ServerProtocol)

    @property
    def close_code(self) -> int:
        """The code this connection ends with: that of the first Close, else 1006."""
        close = self._protocol.close_sent or self._protocol.close_rcvd
        return CloseCode.ABNORMAL if close is None else close.code

    def receive_data(self, data: bytes, now: float) -> list[Happening]:
        """Take bytes from the client at the time `now`, in seconds on any monotonic clock.

        Then act on what happened and send what `data_to_send` returns.
        """
        if self.phase is Phase.HANDSHAKE:
            return self._receive_head(data)
        if not self.upgraded:
            # The handshake has failed. What still comes was meant for a conversation, and the
            # library would answer its pings if it had not seen the failure itself.
            return []
        self._protocol.receive_data(data)
        frames = [each for each in self._protocol.events_received() if isinstance(each, Frame)]
        self._unparsed += len(data) - sum(map(size_of, frames))
        return [] if self.phase is Phase.CLOSING else self._take_frames(frames, now)

    def receive_eof(self) -> None:
        """Take the end of the client's stream."""
        self._protocol.receive_eof()
        self.phase = Phase.CLOSING

    def accept(self, now: float) -> list[Happening]:
        """Answer the handshake request: with 101, or with what websockets has against it."""
        server = self._server
        assert self._request is not None
        response = server.accept(self._request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._send_refusal(response)
            return [NotUpgraded.by(server.handshake_exc)]
        server.send_response(response)
        self._request = None
        self.phase = Phase.HELLO
        # From here on a plain Protocol does, and the request it was born from can go: with its
        # headers and the frames of its parser it would stay as long as the client does.
        self._unsent = server.data_to_send()
        self._protocol = _open(self._policy)
        server.parser.close()
        early, self._early = self._early, b""
        return self.receive_data(early, now) if early else []

    def refuse(self, status: HTTPStatus, text: str, *, retry_after: int | None = None) -> None:
        """Answer the handshake request with an HTTP error; `retry_after` is in seconds."""
        response = self._server.reject(status, text + "\n")
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        self._send_refusal(response)

    def open(self, *, behind: bool) -> None:
        """Let the client in, or note that it fell behind, or has caught up.

        Nothing is opened that is closing.
        """
        if self.phase is not Phase.CLOSING:
            self.phase = Phase.BEHIND if behind else Phase.LIVE

    def close(self, code: CloseCode, reason: str = "") -> bool:
        """Send a Close, unless the handshake is unfinished or a Close was sent before.

        Return whether one is sent: where not, all that is left is to close the transport.
        """
        sends = self._protocol.state is State.OPEN
        if sends:
            self._protocol.send_close(code, reason or code.reason)
        self.phase = Phase.CLOSING
        return sends

    def data_to_send(self) -> list[bytes]:
        """Return the bytes to write, in order; an empty one means the end of our stream."""
        unsent, self._unsent = self._unsent, []
        return unsent + self._protocol.data_to_send()

    def release(self) -> None:
        """End the conversation and break the library's reference cycles: the connection is gone.

        A protocol and its parser, and an exception and the frames it came through, refer to each
        other: without this, clients would stay in memory until the collector runs. Nothing may be
        received any more.
        """
        self.phase = Phase.CLOSING
        self._request = None
        self._protocol.parser.close()
        for exception in (self._protocol.handshake_exc, self._protocol.parser_exc):
            error: BaseException | None = exception
            while error is not None:
                error.__traceback__ = None
                error = error.__cause__ or error.__context__

    @property
    def _server(self) -> ServerProtocol:
        assert isinstance(self._protocol, ServerProtocol)
        return self._protocol

    def _send_refusal(self, response: Response) -> None:
        self._server.send_response(response)
        self.phase = Phase.CLOSING
        self._request = None
        self._early = b""

    def _receive_head(self, data: bytes) -> list[Happening]:
        if self._request is not None:
            self._early += data
            return []
        # The request goes to the library without what may come behind it: it would take frames
        # that arrive before the handshake is answered, and answer them before it, too.
        seen = self._early + data
        end = seen.find(_HEAD_END)
        cut = len(data) if end < 0 else end + len(_HEAD_END) - len(self._early)
        self._protocol.receive_data(data[:cut])
        self._early = seen[-len(_HEAD_END) + 1 :] if end < 0 else data[cut:]
        for event in self._protocol.events_received():
            assert isinstance(event, Request)
            self._request = event
            return [Requested(event.path, event.headers)]
        if self._protocol.handshake_exc is not None:
            self.phase = Phase.CLOSING
            return [NotUpgraded.by(self._protocol.handshake_exc)]
        return []

    def _take_frames(self, frames: Sequence[Frame], now: float) -> list[Happening]:
        happenings: list[Happening] = []
        for frame in frames:
            happenings += self._take_frame(frame, now)
            if self.phase is Phase.CLOSING:
                return happenings
        if self._protocol.state is not State.OPEN:
            self.phase = Phase.CLOSING
            happenings.append(Closing(str(self._protocol.parser_exc)))
        return happenings

    def _take_frame(self, frame: Frame, now: float) -> list[Happening]:
        if frame.opcode is Opcode.CLOSE:
            self.phase = Phase.CLOSING
            return [Closing("closed by the client")]
        if frame.opcode is Opcode.PONG and self.awaiting_pong:
            self.awaiting_pong = False
            return []
        is_data = frame.opcode in (Opcode.TEXT, Opcode.BINARY)
        is_hello = self.phase is Phase.HELLO and is_data and frame.fin
        if not is_hello and not self._may_send(now):
            return self._closing(CloseCode.TOO_MANY, "too many messages")
        if frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
            return []
        if is_data:
            self._message = (frame.opcode, bytearray())
        # The library lets a continuation through only where there is something to continue.
        assert self._message is not None
        opcode, message = self._message
        message += frame.data
        if not frame.fin:
            return []
        self._message = None
        return self._take_message(opcode, message)

    def _take_message(self, opcode: Opcode, message: bytearray) -> list[Happening]:
        if opcode is Opcode.BINARY:
            if self.phase is Phase.HELLO:
                return self._closing(CloseCode.BAD_HELLO, "the first message is binary")
            return [Ignored()]
        try:
            text = message.decode()
        except UnicodeDecodeError:
            return self._closing(CloseCode.INVALID_DATA)
        if self.phase is Phase.HELLO:
            try:
                hello = parse_hello(text)
            except BadHello as error:
                return self._closing(CloseCode.BAD_HELLO, str(error))
            self.phase = Phase.AUTHENTICATING
            return [Greeted(hello)]
        acknowledged = parse_ack(text)
        return [Ignored() if acknowledged is None else Acknowledged(acknowledged)]

    def _closing(self, code: CloseCode, detail: str = "") -> list[Happening]:
        self.close(code)
        return [Closing(detail or code.reason)]

    def _may_send(self, now: float) -> bool:
        if self._bucket is None:
            rate = self._policy.messages_per_second
            self._bucket = Bucket(rate, rate)
        return self._bucket.take(now)


def _open(policy: Policy) -> Protocol:
    return Protocol(Side.SERVER, state=State.OPEN, max_size=policy.max_message)
