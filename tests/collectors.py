"""A collector of OpenTelemetry's, as far as notifyd's spans need one: OTLP over HTTP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping


class Received(NamedTuple):
    """A span. Ids are hexadecimal digits, times Unix time in nanoseconds."""

    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    kind: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class Collector:
    """Listens at a port of its own, and keeps what it is sent.

    With `status` it refuses everything.
    """

    def __init__(self, status: int = 200) -> None:
        self.spans: list[Received] = []
        self.headers: list[Mapping[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            """Takes spans."""

            def do_POST(self) -> None:
                """Answer a request."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.headers.append(dict(self.headers))
                if self.path == "/v1/traces" and status == 200:
                    collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    def named(self, name: str) -> list[Received]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _spans(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.kind,
            _attributes(span.attributes),
            _attributes(resource.resource.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
