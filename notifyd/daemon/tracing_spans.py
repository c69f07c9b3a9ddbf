"""Spans, made and sent by OpenTelemetry: of the daemon's files, the only one that knows it.

They are sent by a thread. What it can't send in time it drops, and says so in the log.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

import notifyd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context

    from notifyd.core.traceparent import Passage

_NANOSECONDS: Final = 1_000_000_000


class Spans:
    """Makes the spans of events; the standard variables say where they are sent, and how.

    It keeps to itself: the site's code in this process may have a tracer provider of its own.
    Raises what OpenTelemetry raises for variables that it doesn't understand.
    """

    def __init__(self) -> None:
        named = OTELResourceDetector().detect().attributes
        ours = {"service.name": "notifyd", "service.version": notifyd.__version__}
        # It would wait at the end of the process for a collector that is away.
        self._provider = TracerProvider(
            resource=Resource.create({**ours, **named}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("notifyd", notifyd.__version__)

    def passed(self, passage: Passage) -> None:
        """Make the spans of an event: on the bus, and from there to its last recipient.

        Both are children of the publisher's. The names of attributes are those of OpenTelemetry's
        semantic conventions for messaging, and notifyd's own.
        """
        trace, span, flags = passage.parent
        parent = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags))
        context = set_span_in_context(NonRecordingSpan(parent))
        event: dict[str, str | int] = {
            "messaging.system": "redis",
            "messaging.message.id": passage.id,
            "messaging.batch.message_count": passage.events,
        }
        # The id has Redis' time, which may be ahead of ours.
        published = min(passage.published, passage.read)
        self._span(
            "notifyd receive",
            context,
            {**event, "messaging.operation.name": "receive", "messaging.operation.type": "receive"},
            (published, passage.read),
            kind=SpanKind.CONSUMER,
        )
        self._span(
            "notifyd fan-out",
            context,
            {**event, "notifyd.deliveries": passage.deliveries},
            (passage.read, passage.written),
        )

    def close(self, within: float) -> None:
        """Have the rest sent, for so many seconds at most; what is left then is lost."""
        # OpenTelemetry itself would wait for half a minute.
        thread = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        thread.start()
        thread.join(within)

    def _span(
        self,
        name: str,
        parent: Context,
        attributes: Mapping[str, str | int],
        times: tuple[float, float],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        began, ended = (int(each * _NANOSECONDS) for each in times)
        self._tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, start_time=began
        ).end(ended)
