"""Traces: a span of each writing to the bus, where the site uses OpenTelemetry.

Nothing here imports OpenTelemetry before somebody else has: without it there is no span to go on
from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import notifyd
from notifyd.core.traceparent import TraceParent, parse_traceparent
from notifyd.django.bus import BusError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.http import HttpRequest
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from notifyd.django.bus import Fields

FIELD: Final = b"traceparent"


def request_traceparent(request: HttpRequest) -> str | None:
    """Return the header `traceparent` of a request for `notify()`, None without a valid one.

    Whoever sends a request may write anything there, and no event is to be lost by that: W3C
    Recommendation "Trace Context", section 4.3, has it ignored.
    """
    header: str = request.headers.get("traceparent", "")
    try:
        return str(parse_traceparent(header.strip()))
    except ValueError:
        return None


def parent(entries: Sequence[Fields]) -> Context | None:
    """Return what the span of writing entries is a child of.

    None: they say so themselves, or nothing is traced here.
    """
    if "opentelemetry.trace" not in sys.modules or any(FIELD in entry for entry in entries):
        return None
    from opentelemetry import context, trace  # noqa: PLC0415 - a site may be without it

    here = context.get_current()
    return here if trace.get_current_span(here).get_span_context().is_valid else None


def write(
    send: Callable[[Sequence[Fields]], Sequence[str]],
    entries: Sequence[Fields],
    *,
    stream: str,
    within: Context | None,
) -> None:
    """Have entries written by `send`, which returns their ids, in a span within a context.

    The entries then carry that span, which daemons go on from. The names are those of
    OpenTelemetry's semantic conventions for messaging.
    """
    if within is None:
        send(entries)
        return
    from opentelemetry import trace  # noqa: PLC0415 - a site may be without it

    attributes: dict[str, str | int] = {
        "messaging.system": "redis",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": stream,
    }
    if len(entries) > 1:
        attributes["messaging.batch.message_count"] = len(entries)
    tracer = trace.get_tracer("notifyd", notifyd.__version__)
    with tracer.start_as_current_span(
        "notifyd publish",
        context=within,
        kind=trace.SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        header = _header(span).encode()
        try:
            ids = send([{**entry, FIELD: header} for entry in entries])
        except BusError as error:
            span.set_attribute("error.type", error.reason.value)
            span.set_status(trace.StatusCode.ERROR, str(error))
            raise
        if len(ids) == 1:
            span.set_attribute("messaging.message.id", ids[0])


def _header(span: Span) -> str:
    here = span.get_span_context()
    return str(TraceParent(here.trace_id, here.span_id, int(here.trace_flags)))
