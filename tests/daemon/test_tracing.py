from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from collectors import Collector
from servers import LOOPBACK
from structlog.testing import capture_logs
from waiting import wait_until

import notifyd
from notifyd.core.traceparent import Passage, parse_traceparent
from notifyd.daemon import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from notifyd.daemon.tracing_spans import Spans

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = parse_traceparent(f"00-{TRACE}-{SPAN}-01")
PASSAGE = Passage(PARENT, "1763797912345-0", 1763797912.345, 1763797912.5, 1763797912.75, 2, 300)
SECONDS = 1_000_000_000


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give what sets variables; none of OpenTelemetry's and no proxy is, and it sends soon."""
    for name in os.environ:
        if name.startswith("OTEL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    return monkeypatch


@pytest.fixture
def collector(environ: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Give the collector that the environment names."""
    with Collector() as running:
        environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


@pytest.fixture
def silent(environ: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the environment name a collector that never answers."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        environ.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        yield
    # What still tries to send would complain in the log of another test.
    wait_until(lambda: not any(map(is_sender, threading.enumerate())), 20)


def is_sender(thread: threading.Thread) -> bool:
    """Tell whether a thread is one that sends spans, or waits for it."""
    return thread.name.startswith(("Otel", "tracing"))


def start() -> Spans:
    """Return what the environment asks for."""
    with capture_logs() as lines:
        spans = tracing.start(os.environ)
    assert [line["event"] for line in lines] == ["tracing.started"]
    assert spans is not None
    return spans


def refusal() -> str:
    """Return why the environment gets nothing."""
    with capture_logs() as lines:
        assert tracing.start(os.environ) is None
    [line] = lines
    assert (line["event"], line["log_level"]) == ("tracing.unavailable", "warning")
    return str(line["detail"])


def test_off() -> None:
    """Without OpenTelemetry's variables there are no spans, and nothing is said about it."""
    with capture_logs() as lines:
        assert tracing.start(os.environ) is None
    assert lines == []


def test_not_installed(collector: Collector, environ: pytest.MonkeyPatch) -> None:
    """If spans are asked for and OpenTelemetry is not installed, a warning says what to install."""
    assert collector.url
    environ.delitem(sys.modules, "notifyd.daemon.tracing_spans", raising=False)
    environ.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert "pip install 'notifyd[opentelemetry]'" in refusal()


def test_malformed_headers(collector: Collector, environ: pytest.MonkeyPatch) -> None:
    """Headers that can't be sent are a warning that doesn't quote them."""
    assert collector.url
    environ.setenv("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")
    detail = refusal()
    assert detail.startswith("OTEL_EXPORTER_OTLP_HEADERS must be like")
    assert "hunter2" not in detail


def test_malformed_otherwise(collector: Collector, environ: pytest.MonkeyPatch) -> None:
    """Whatever else OpenTelemetry doesn't understand is a warning, too, and not the end."""
    assert collector.url
    environ.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert refusal()


def test_stages(collector: Collector) -> None:
    """An event has two spans, on the bus and in the fan-out, both children of its publisher's."""
    spans = start()
    spans.passed(PASSAGE)
    wait_until(lambda: len(collector.spans) == 2)
    spans.close(5)
    received, fanned = collector.spans
    assert [span.name for span in collector.spans] == ["notifyd receive", "notifyd fan-out"]
    assert {(span.trace, span.parent) for span in collector.spans} == {(TRACE, SPAN)}
    times = [1763797912.345, 1763797912.5, 1763797912.5, 1763797912.75]
    told = [received.began, received.ended, fanned.began, fanned.ended]
    assert [moment / SECONDS for moment in told] == pytest.approx(times, abs=1e-6)
    assert received.ended == fanned.began
    assert received.kind == 5  # SPAN_KIND_CONSUMER
    assert received.attributes == {
        "messaging.system": "redis",
        "messaging.message.id": "1763797912345-0",
        "messaging.batch.message_count": 2,
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
    }
    assert fanned.attributes["notifyd.deliveries"] == 300


def test_clock_ahead(collector: Collector) -> None:
    """If Redis' clock is ahead, an event was on the bus for no time, and not for less."""
    spans = start()
    spans.passed(PASSAGE._replace(published=PASSAGE.read + 60))
    spans.close(5)
    [received] = collector.named("notifyd receive")
    assert received.began == received.ended


def test_service(collector: Collector) -> None:
    """The spans are those of the service "notifyd", in its version."""
    spans = start()
    spans.passed(PASSAGE)
    spans.close(5)
    resource = collector.spans[0].resource
    assert resource["service.name"] == "notifyd"
    assert resource["service.version"] == notifyd.__version__


def test_named_service(collector: Collector, environ: pytest.MonkeyPatch) -> None:
    """The environment may name the service otherwise, and say more about it."""
    environ.setenv("OTEL_SERVICE_NAME", "newsroom-notifyd")
    environ.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    spans = start()
    spans.passed(PASSAGE)
    spans.close(5)
    resource = collector.spans[0].resource
    assert resource["service.name"] == "newsroom-notifyd"
    assert resource["deployment.environment.name"] == "staging"


def test_headers(
    collector: Collector, environ: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The headers of the environment are sent, and reach no log."""
    caplog.set_level(logging.DEBUG)
    environ.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2%20x")
    spans = start()
    spans.passed(PASSAGE)
    spans.close(5)
    assert collector.headers[0]["api-key"] == "hunter2 x"
    assert "hunter2" not in caplog.text


def test_refused(environ: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that refuses is told of in the log, without the headers."""
    environ.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")
    with Collector(status=401) as collector:
        environ.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        spans = start()
        spans.passed(PASSAGE)
        spans.close(5)
    assert "401" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.long
@pytest.mark.usefixtures("silent")
def test_silent_collector() -> None:
    """A collector that doesn't answer holds nobody up, neither events nor the end."""
    spans = start()
    began = time.monotonic()
    for _ in range(1000):
        spans.passed(PASSAGE)
    spans.close(0.1)
    assert time.monotonic() - began < 5
