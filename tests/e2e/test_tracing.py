"""One trace from the site's request through the bus to the last recipient."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from collectors import Collector
from daemons import Daemon
from servers import LOOPBACK

from notifyd.core.positions import parse_position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from daemons import Site
    from e2e.clients import Pages

MILLISECOND = 1_000_000
SECRET = "hunter2"

# As a site sets OpenTelemetry up.
SET_UP = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter({endpoint!r})))
trace.set_tracer_provider(provider)
"""

REQUEST = """
from django.db import transaction
from notifyd.django import notify
with trace.get_tracer("newsroom").start_as_current_span("request"):
    with transaction.atomic():
        notify({"kind": "greeting"}, everyone=True)
provider.force_flush()
"""

PUBLISH = """
from notifyd.django import notify
header = "-".join(["00", "4" * 32, "b" * 16, "01"])
for n in range({count}):
    notify({{"n": n}}, everyone=True, traceparent=header)
"""

# Python runs this before anything else if it finds it under the name sitecustomize.
CUSTOMIZE = """
import atexit, json, os, sys
if {hidden}:
    sys.modules["opentelemetry"] = None

def tell():
    with open({path!r}, "w") as file:
        json.dump([name for name, module in sys.modules.items() if module], file)

atexit.register(tell)
"""


def customized(site: Site, folder: Path, *, hidden: bool) -> dict[str, str]:
    """Return variables for a daemon that tells what it has imported, in imported.json.

    To some of them OpenTelemetry is hidden, as if it were not installed.
    """
    code = CUSTOMIZE.format(hidden=hidden, path=str(folder / "imported.json"))
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder}:{site.environment['PYTHONPATH']}"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Give a collector of the site's and the daemon's spans."""
    with Collector() as running:
        yield running


@pytest.fixture
async def traced(home: Path, site: Site, collector: Collector) -> AsyncIterator[Daemon]:
    """Give a daemon that sends its spans there, though not before a minute is over."""
    options = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET}",
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
    }
    async with Daemon(home, site, "traced", **options) as daemon:
        daemon.wait_for_bus()
        yield daemon


async def test_trace(traced: Daemon, site: Site, collector: Collector, pages: Pages) -> None:
    """One trace leads from a request's span over the publishing to the bus and to the fan-out."""
    readers = [await pages.hello(traced, site.token(name)) for name in ("nadia", "omar")]
    site.run(SET_UP.format(endpoint=f"{collector.url}/v1/traces"))
    site.run(REQUEST)
    event = await readers[0].event(kind="greeting")
    await readers[1].event(kind="greeting")
    await pages.close()
    # What is not sent yet is sent before it ends.
    assert traced.stop() == 0
    spans = {span.name: span for span in collector.spans}
    request, publish = spans["request"], spans["notifyd publish"]
    receive, fan_out = spans["notifyd receive"], spans["notifyd fan-out"]
    assert {span.trace for span in collector.spans} == {request.trace}
    assert publish.parent == request.id
    assert receive.parent == fan_out.parent == publish.id
    names = {span.name: span.resource["service.name"] for span in (receive, fan_out)}
    assert names == {"notifyd receive": "notifyd", "notifyd fan-out": "notifyd"}
    with_id = [publish, receive, fan_out]
    assert {span.attributes["messaging.message.id"] for span in with_id} == {event["id"]}
    assert fan_out.attributes["notifyd.deliveries"] == 2
    # Redis tells the time of publishing in whole milliseconds, as a float of seconds that is exact
    # to less than a microsecond.
    published = parse_position(event["id"])[0] * MILLISECOND
    assert abs(receive.began - published) < 1000
    assert publish.began - MILLISECOND <= receive.began <= publish.ended
    assert receive.began <= receive.ended == fan_out.began <= fan_out.ended
    assert SECRET not in traced.log


@pytest.mark.long
async def test_silent_collector(home: Path, site: Site, pages: Pages) -> None:
    """A collector that never answers disturbs no delivery, and the end by a second at most."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
        async with Daemon(home, site, "silent", **options) as daemon:
            daemon.wait_for_bus()
            page = await pages.hello(daemon, site.token("nadia"))
            site.run(PUBLISH.format(count=200))
            await page.count(200)
            await pages.close()
            assert daemon.stop() == 0
    assert daemon.events("service.stopped")


@pytest.mark.long
async def test_collector_away(home: Path, site: Site, pages: Pages) -> None:
    """A collector that is away fills no log: OpenTelemetry's lines are folded like any others."""
    with socket.create_server((LOOPBACK, 0)) as closed:
        url = f"http://{LOOPBACK}:{closed.getsockname()[1]}"
    options = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
    }
    async with Daemon(home, site, "alone", **options) as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        site.run(PUBLISH.format(count=1000))
        await page.count(1000)
    lines = [e for e in daemon.events() if e.get("logger", "").startswith("opentelemetry")]
    assert 0 < len(lines) < 20
    assert all(line["level"] in {"warning", "error"} for line in lines)


@pytest.mark.long
async def test_not_asked_for(home: Path, site: Site, tmp_path: Path) -> None:
    """A daemon that isn't asked for spans imports nothing of what makes or sends them."""
    async with Daemon(home, site, "off", **customized(site, tmp_path, hidden=False)) as daemon:
        daemon.stop()
    imported = json.loads((tmp_path / "imported.json").read_text())
    assert "notifyd.daemon.service" in imported
    # Of OpenTelemetry redis imports the rest, for its own metrics, wherever that is installed.
    unwanted = ("notifyd.daemon.tracing_spans", "opentelemetry.sdk.trace", "opentelemetry.exporter")
    assert [name for name in imported if name.startswith(unwanted)] == []


@pytest.mark.long
async def test_not_installed(home: Path, site: Site, tmp_path: Path, pages: Pages) -> None:
    """A daemon that is asked for spans in vain says once what to install, and runs as ever."""
    options = customized(site, tmp_path, hidden=True) | {"OTEL_TRACES_EXPORTER": "otlp"}
    async with Daemon(home, site, "bare", **options) as daemon:
        [warning] = daemon.events("tracing.unavailable")
        assert "opentelemetry-exporter-otlp-proto-http" in warning["detail"]
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        site.run(PUBLISH.format(count=1))
        await page.event(n=0)
        assert daemon.events(level="error") == []
        await pages.close()
        assert daemon.stop() == 0
    imported = json.loads((tmp_path / "imported.json").read_text())
    assert [name for name in imported if name.startswith("opentelemetry")] == []
