"""Metrics for Prometheus: the table of all of them, and the registry that shows them.

Counters and gauges live where they are counted, as plain numbers; they are read at each scrape.
Histograms are plain numbers, too: those of the library cost ten times as much at each event.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import notifyd
from notifyd.core.histogram import Histogram
from notifyd.daemon.metrics_process import Process
from notifyd.daemon.metrics_row import Metric, label_text
from notifyd.daemon.metrics_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PREFIX: Final = "notifyd_"

# Objectives are set at one of these bounds: whether one is met is then a count, while a value
# between two bounds could only be guessed.
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

OTHER: Final = "other"


_TABLE: Final = {metric.name: metric for metric in METRICS}

Reading = float | Mapping[Any, float]
"""A value (True counts as 1), or one for each value of the label; enumerations are unwrapped."""

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Metrics(Collector):
    """All metrics of this process, in a registry of their own.

    Histograms are attributes, observed where something is measured. All others are wired with
    `read`; one that isn't is left out, and named by `unwired`.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._readers: dict[str, Callable[[], Reading]] = {}
        libraries = [version(name) for name in ("django", "redis", "websockets")]
        self._versions = [notifyd.__version__, platform.python_version(), *libraries]
        self._histograms: dict[str, Histogram] = {}
        self.authentication_seconds = self._histogram("authentication_seconds")
        self.broadcast_latency_seconds = self._histogram("broadcast_latency_seconds")
        self.client_latency_seconds = self._histogram("client_latency_seconds")
        self.bus_latency_seconds = self._histogram("bus_latency_seconds")
        self.relay_latency_seconds = self._histogram("relay_latency_seconds")
        self.fanout_seconds = self._histogram("fanout_seconds")
        self.recheck_seconds = self._histogram("recheck_seconds")
        self._registry.register(self)
        self._registry.register(Process())
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def _histogram(self, name: str) -> Histogram:
        histogram = self._histograms[name] = Histogram(BUCKETS)
        return histogram

    def observe_latency(self, until_read: Sequence[float], until_written: float, last: str) -> None:
        """Observe the latency of a batch's events, in seconds: its two stages and their sum.

        The second stage is the same for all. The id of the last event is the exemplar of each: a
        scraper that asks for OpenMetrics gets one for each bound, and with it a slow event by name.
        """
        example = last, time.time()
        self.bus_latency_seconds.observe_all(until_read, 0.0, example)
        self.relay_latency_seconds.observe(until_written, len(until_read), example)
        self.broadcast_latency_seconds.observe_all(until_read, until_written, example)

    def observe_client_latency(self, seconds: float, id_: str) -> None:
        """Observe when a page acknowledged an event, likewise with the event's id."""
        self.client_latency_seconds.observe(seconds, example=(id_, time.time()))

    def read(self, name: str, reader: Callable[[], Reading]) -> None:
        """Wire a counter or gauge: `reader` returns its value, or a value for each label value.

        Label values that the table doesn't foresee are added up as `other`: a close code, for one,
        is chosen by the client, and no stranger decides how many series there are.
        Raises ValueError for a name that is not to be wired, or already is.
        """
        if name not in self.unwired():
            raise ValueError(f"no metric to wire: {name}")
        self._readers[name] = reader

    def unwired(self) -> list[str]:
        """Return the names of the table that `read` was not called for."""
        return [
            metric.name
            for metric in METRICS
            if metric.kind != "histogram"
            and metric.name != "build_info"
            and metric.name not in self._readers
        ]

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics if `accept` asks for it.

        `accept` is the value of the Accept header.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # The library compares what is no version number at all.
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[_Family]:
        """Read what is wired or was observed, for the registry."""
        for name, reader in self._readers.items():
            yield _family(_TABLE[name], reader())
        for name, histogram in self._histograms.items():
            yield _histogram_family(_TABLE[name], histogram)
        build = _TABLE["build_info"]
        family = GaugeMetricFamily(PREFIX + build.name, build.help, labels=build.labels)
        family.add_metric(self._versions, 1)
        yield family

    def describe(self) -> list[_Family]:
        """Name nothing in advance: what there is to collect is not wired yet."""
        return []


def _family(metric: Metric, reading: Reading) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    base = metric.name.removesuffix("_total")
    # OpenMetrics wants a unit to be the end of the name; ours in words are for the reference.
    unit = metric.unit if metric.unit and base.endswith(f"_{metric.unit}") else ""
    family = kind(PREFIX + metric.name, metric.help, labels=metric.labels, unit=unit)
    if not isinstance(reading, Mapping):
        family.add_metric([], reading)
        return family
    sums: dict[str, float] = dict.fromkeys(metric.values, 0)
    for value, count in reading.items():
        label = label_text(value) if label_text(value) in metric.values else OTHER
        sums[label] = sums.get(label, 0) + count
    for label, total in sums.items():
        family.add_metric([label], total)
    return family


def _histogram_family(metric: Metric, histogram: Histogram) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + metric.name, metric.help, unit=metric.unit)
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    for number, (bound, count) in enumerate(zip(bounds, histogram.cumulated(), strict=True)):
        if number in histogram.examples:
            value, (id_, observed_at) = histogram.examples[number]
            exemplar = Exemplar({"event_id": id_}, value, observed_at)
            buckets.append((bound, count, exemplar))
        else:
            buckets.append((bound, count))
    family.add_metric([], buckets, histogram.sum)
    return family
