from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from notifyd.core.happenings import Phase
from notifyd.daemon.metrics import BUCKETS, Metrics
from notifyd.daemon.metrics_table import METRICS

if TYPE_CHECKING:
    from notifyd.daemon.metrics_row import Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def wired() -> Metrics:
    """Return metrics that read nothing but zeros."""
    metrics = Metrics()
    labelled = {metric.name for metric in METRICS if metric.labels}
    for name in metrics.unwired():
        metrics.read(name, dict if name in labelled else int)
    return metrics


def samples(metrics: Metrics, name: str) -> dict[str, float]:
    """Return the values of a metric that a scrape finds, by label value."""
    text = metrics.render("")[0].decode()
    return {
        next(iter(sample.labels.values()), ""): sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metric_is_shown(metric: Metric) -> None:
    """Every metric of the table is exposed with its prefix, its kind and its help."""
    text = wired().render("")[0].decode()
    name = f"notifyd_{metric.name}"
    assert f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n" in text


def test_nothing_else_is_ours() -> None:
    """No metric with our prefix is missing from the table."""
    text = wired().render("")[0].decode()
    shown = re.findall(r"^# TYPE notifyd_(\w+) ", text, re.MULTILINE)
    assert sorted(shown) == sorted(metric.name for metric in METRICS)


def test_help_is_a_sentence() -> None:
    """Every metric is explained in a sentence."""
    assert not [metric.name for metric in METRICS if not metric.help.endswith(".")]


def test_process_and_interpreter() -> None:
    """The process and its interpreter are shown too."""
    text = wired().render("")[0].decode()
    for name in ("process_resident_memory_bytes", "process_open_fds", "python_info", "python_gc_"):
        assert f"\n{name}" in text


def test_label_values_are_present_from_the_start() -> None:
    """Label values that are known beforehand are there before anything happened, as 0."""
    results = ("ok", "expired", "invalid", "inactive", "timeout", "rate_limited", "error")
    found = samples(wired(), "notifyd_authentications_total")
    assert found == dict.fromkeys(results, 0)


def test_values_are_read_at_each_scrape() -> None:
    """A value is read when it is asked for."""
    count = 1
    metrics = Metrics()
    metrics.read("gaps_total", lambda: count)
    assert samples(metrics, "notifyd_gaps_total") == {"": 1}
    count = 2
    assert samples(metrics, "notifyd_gaps_total") == {"": 2}


def test_labelled_values() -> None:
    """A value per label value adds to those present from the start."""
    metrics = Metrics()
    metrics.read("events_total", lambda: {"stream": 3})
    assert samples(metrics, "notifyd_events_total") == {"stream": 3, "pubsub": 0}


def test_enumerations_are_labels() -> None:
    """A member of an enumeration counts under its value."""
    metrics = Metrics()
    metrics.read("connections", lambda: {Phase.LIVE: 2})
    assert samples(metrics, "notifyd_connections")["live"] == 2


def test_strangers_add_no_series() -> None:
    """Close codes that clients make up are counted together, not in a series each."""
    metrics = Metrics()
    metrics.read("connections_closed_total", lambda: {1000: 1, 3000: 2, 4999: 3})
    found = samples(metrics, "notifyd_connections_closed_total")
    assert (found["1000"], found["other"]) == (1, 5)
    assert not found.keys() & {"3000", "4999"}


def test_boolean_is_0_or_1() -> None:
    """A state that is true is 1."""
    metrics = Metrics()
    metrics.read("redis_up", lambda: True)
    assert samples(metrics, "notifyd_redis_up") == {"": 1}


def test_histograms_are_observed() -> None:
    """A histogram counts what it observes up to each bound, the objectives among them."""
    metrics = Metrics()
    metrics.fanout_seconds.observe(0.05)
    found = samples(metrics, "notifyd_fanout_seconds_bucket")
    assert [float(bound) for bound in found][:-1] == list(BUCKETS)
    assert (found["0.025"], found["0.05"], found["+Inf"]) == (0, 1, 1)


def test_every_histogram_is_an_attribute() -> None:
    """Each histogram of the table can be observed."""
    names = [metric.name for metric in METRICS if metric.kind == "histogram"]
    assert all(hasattr(Metrics(), name) for name in names)


def test_unwired_metrics_are_named() -> None:
    """What nobody wired is named, and not shown as a 0 that nobody counted."""
    metrics = wired()
    assert metrics.unwired() == []
    assert "gaps_total" in Metrics().unwired()
    assert samples(Metrics(), "notifyd_gaps_total") == {}


@pytest.mark.parametrize("name", ["nonsense", "fanout_seconds", "build_info"])
def test_only_what_is_read_can_be_wired(name: str) -> None:
    """What is not in the table, is observed, or is constant can't be wired."""
    with pytest.raises(ValueError, match=f"no metric to wire: {name}"):
        Metrics().read(name, int)


def test_nothing_is_wired_twice() -> None:
    """Two sources for one metric are a mistake."""
    metrics = Metrics()
    metrics.read("gaps_total", int)
    with pytest.raises(ValueError, match="no metric to wire: gaps_total"):
        metrics.read("gaps_total", int)


def test_build_info() -> None:
    """The versions in use are labels of a constant."""
    text = Metrics().render("")[0].decode()
    assert re.search(r'^notifyd_build_info\{.*websockets="[\d.]+".*\} 1.0$', text, re.MULTILINE)


def test_openmetrics_when_asked_for() -> None:
    """Whoever asks for OpenMetrics gets it, complete with units."""
    body, content_type = wired().render(f"{OPENMETRICS}, text/plain;q=0.5")
    parsed = openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call] # the library doesn't say
    families = {family.name: family for family in parsed}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert families["notifyd_delivered_bytes"].unit == "bytes"
    assert families["notifyd_fanout_seconds"].unit == "seconds"


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "text/plain;version=x", OPENMETRICS.replace("1", "x"), "ÿ;=,;"],
)
def test_text_otherwise(accept: str) -> None:
    """Whoever asks for anything else, or for nonsense, gets Prometheus' own text format."""
    body, content_type = Metrics().render(accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert list(parse_text(body.decode()))


def test_two_services_in_one_process() -> None:
    """Each instance has a registry of its own."""
    first, second = Metrics(), Metrics()
    first.fanout_seconds.observe(1)
    assert samples(second, "notifyd_fanout_seconds_count") == {"": 0}


def test_label_values_are_unique() -> None:
    """No label value is listed twice."""
    values = [metric.values for metric in METRICS]
    assert all(len(set(known)) == len(known) for known in values)
    assert not any(isinstance(value, enum.Enum) for known in values for value in known)


def test_the_stages_of_latency() -> None:
    """Both stages of an event's latency are observed, and their sum."""
    metrics = wired()
    metrics.observe_latency([0.02], 0.3, "7-0")
    sums = {
        name: next(iter(samples(metrics, f"notifyd_{name}_latency_seconds_sum").values()))
        for name in ("bus", "relay", "broadcast")
    }
    assert sums == {"bus": 0.02, "relay": 0.3, "broadcast": 0.32}


def test_exemplars() -> None:
    """OpenMetrics names an event for each bound of the latency; the plain text does not."""
    metrics = wired()
    metrics.observe_latency([0.02], 0.3, "7-0")
    metrics.observe_client_latency(0.5, "7-0")
    text = metrics.render(OPENMETRICS)[0].decode()
    exemplars = [
        sample.exemplar.labels
        for family in openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # the library doesn't say
        for sample in family.samples
        if sample.exemplar
    ]
    assert exemplars == [{"event_id": "7-0"}] * 4
    assert "event_id" not in metrics.render("")[0].decode()
