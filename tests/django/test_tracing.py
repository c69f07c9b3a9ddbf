from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import RequestFactory
from django.test.utils import override_settings
from newsrooms import model
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifyd.django import (
    PublishError,
    anotify,
    notify,
    notify_disconnect,
    notify_recheck,
    publisher,
    request_traceparent,
)
from notifyd.django.outbox import outbox
from notifyd.django.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams import Stream

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"
EVENT = {"n": 1}
KEY = "{notifyd}:events"

_EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module")
def tracer() -> trace.Tracer:
    """Give the site's tracer; a process can set its provider once only."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(_EXPORTER))
    trace.set_tracer_provider(provider)
    return provider.get_tracer("site")


@pytest.fixture(autouse=True)
def exported(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[ReadableSpan]]:
    """Give a function that returns the spans of writing to the bus."""
    monkeypatch.setattr(publisher, "stats", Stats())
    _EXPORTER.clear()
    return lambda: [s for s in _EXPORTER.get_finished_spans() if s.name == "notifyd publish"]


@pytest.fixture
def request_span(tracer: trace.Tracer) -> Iterator[trace.Span]:
    """Have a span of the site's own be the current one."""
    with tracer.start_as_current_span("request") as span:
        yield span


def carried(stream: Stream) -> list[str | None]:
    """Return the traces of the entries on the bus, those of controls too."""
    entries = stream.client.xrange(KEY)
    headers = [fields.get(b"traceparent") for _, fields in entries]
    return [None if header is None else header.decode() for header in headers]


def header(span: Any) -> str:
    """Return the header that names a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_given(stream: Stream) -> None:
    """The trace that the publisher names is carried by the entry, and the event is the same."""
    notify(EVENT, everyone=True, traceparent=GIVEN)
    assert carried(stream) == [GIVEN]
    assert stream.events() == [EVENT]


def test_given_in_a_later_version(stream: Stream) -> None:
    """Of a header of a later version the entry carries what daemons of today understand."""
    notify(EVENT, everyone=True, traceparent=f"01-{TRACE}-{SPAN}-01-more")
    assert carried(stream) == [GIVEN]


@pytest.mark.usefixtures("request_span")
def test_given_inside_of_a_span(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """The trace that the publisher names goes before the current span."""
    notify(EVENT, everyone=True, traceparent=GIVEN)
    assert carried(stream) == [GIVEN]
    assert exported() == []


@pytest.mark.parametrize("wrong", ["", "00", GIVEN.upper(), f"{GIVEN}\n", f"{GIVEN}, {GIVEN}"])
def test_malformed(wrong: str, stream: Stream) -> None:
    """What is no trace is refused at once, like any other mistake in the call."""
    with pytest.raises(ValueError, match=r"^traceparent must be 00-TRACE-PARENT-FLAGS"):
        notify(EVENT, everyone=True, traceparent=wrong)
    assert stream.events() == []


def test_no_text(stream: Stream) -> None:
    """A trace of another type than a text is refused as such."""
    with pytest.raises(TypeError, match=r"^traceparent must be a text or None$"):
        notify(EVENT, everyone=True, traceparent=GIVEN.encode())  # type: ignore[arg-type]
    assert stream.events() == []


def test_none(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """Without a trace and without a span the entry carries none, and no span is made."""
    notify(EVENT, everyone=True)
    assert carried(stream) == [None]
    assert exported() == []


def test_span(
    request_span: trace.Span, stream: Stream, exported: Callable[[], list[ReadableSpan]]
) -> None:
    """The writing is a span within the current one, and the entry carries that span."""
    notify(EVENT, everyone=True)
    [span] = exported()
    [entry] = stream.entries()
    assert span.parent == request_span.get_span_context()
    assert span.kind is trace.SpanKind.PRODUCER
    assert span.status.is_ok or span.status.is_unset
    assert span.attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": KEY,
        "messaging.message.id": entry.id,
    }
    assert carried(stream) == [header(span)]


def test_not_recorded(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """Where the current trace is not recorded, the entry says so."""
    context = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=True)
    with trace.use_span(trace.NonRecordingSpan(context)):
        notify(EVENT, everyone=True)
    [carries] = carried(stream)
    assert (carries or "").startswith(f"00-{TRACE}-")
    assert (carries or "").endswith("-00")
    assert exported() == []


def test_commit(
    tracer: trace.Tracer, stream: Stream, exported: Callable[[], list[ReadableSpan]]
) -> None:
    """The span belongs to where notify() was called, and begins after the commit."""
    with tracer.start_as_current_span("transaction"), transaction.atomic():
        with tracer.start_as_current_span("caller") as caller:
            notify(EVENT, everyone=True)
        assert exported() == []
    [span] = exported()
    assert span.parent == caller.get_span_context()
    assert span.start_time is not None
    assert caller.end_time is not None  # type: ignore[attr-defined]
    assert span.start_time >= caller.end_time  # type: ignore[attr-defined]
    assert carried(stream) == [header(span)]


async def test_async(
    tracer: trace.Tracer, stream: Stream, exported: Callable[[], list[ReadableSpan]]
) -> None:
    """In async code the current span is that of the task."""
    with tracer.start_as_current_span("task") as task:
        await anotify(EVENT, everyone=True)
    [span] = exported()
    assert span.parent == task.get_span_context()
    assert await sync_to_async(carried)(stream) == [header(span)]


def test_log_of_the_admin(
    request_span: trace.Span, stream: Stream, exported: Callable[[], list[ReadableSpan]]
) -> None:
    """Entries of the admin's log that are written together share one span, which counts them."""
    model("contenttypes.ContentType").objects.clear_cache()
    [content_type] = model("contenttypes.ContentType").objects.filter(model="article")
    entry = model("admin.LogEntry")
    user = get_user_model().objects.get(username="admin")
    entry.objects.bulk_create(
        entry(user=user, content_type=content_type, object_id=n, object_repr="x", action_flag=3)
        for n in range(3)
    )
    [span] = exported()
    assert span.parent == request_span.get_span_context()
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in span.attributes
    assert carried(stream) == [header(span)] * 3


@pytest.mark.usefixtures("request_span")
def test_switched_off(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """Where nothing is published there is no span."""
    with override_settings(NOTIFYD={"ENABLED": False}):
        notify(EVENT, everyone=True)
    assert stream.entries() == []
    assert exported() == []


@pytest.mark.usefixtures("request_span")
def test_failure(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """The span of an event that was not written says why, in the words of the log."""
    with stream.server.stopped(), pytest.raises(PublishError) as caught:
        notify(EVENT, everyone=True, required=True)
    [span] = exported()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == str(caught.value)
    assert span.attributes is not None
    assert span.attributes["error.type"] == caught.value.reason == "connection"
    assert span.events == ()


def test_control(
    request_span: trace.Span, stream: Stream, exported: Callable[[], list[ReadableSpan]]
) -> None:
    """Controls of one transaction are one entry and one span, of where the first was called."""
    with transaction.atomic():
        notify_disconnect(7)
        notify_recheck(users=[8])
    [span] = exported()
    assert span.parent == request_span.get_span_context()
    assert carried(stream) == [header(span)]


@pytest.mark.usefixtures("request_span")
def test_repetition(stream: Stream, exported: Callable[[], list[ReadableSpan]]) -> None:
    """Of a control that has to be repeated the first attempt is a span, the others are not."""
    with stream.server.stopped():
        notify_disconnect(7)
    outbox.repeat()
    assert carried(stream) == [None]
    [span] = exported()
    assert span.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (GIVEN, GIVEN),
        (f" {GIVEN}", GIVEN),
        (f"01-{TRACE}-{SPAN}-01-more", GIVEN),
        (None, None),
        ("", None),
        ("nonsense", None),
        (f"{GIVEN},{GIVEN}", None),
    ],
)
def test_request(sent: str | None, taken: str | None) -> None:
    """A request's header is taken if it is valid, and otherwise as if there were none."""
    headers = {} if sent is None else {"traceparent": sent}
    assert request_traceparent(RequestFactory().get("/", headers=headers)) == taken


def test_without_opentelemetry(stream: Stream, run: Callable[[str, str], str]) -> None:
    """A site that doesn't have OpenTelemetry publishes as ever, and is not in want of it."""
    settings = f"""
from newsroom.settings import *
NOTIFYD = {{"REDIS_URL": {stream.server.url!r}}}
"""
    script = f"""
import sys
sys.modules["opentelemetry"] = None
import django
django.setup()
from notifyd.django import notify, notify_disconnect
notify({EVENT!r}, everyone=True)
notify_disconnect(7)
print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""
    assert run(settings, script) == "[]"
    assert carried(stream) == [None, None]
