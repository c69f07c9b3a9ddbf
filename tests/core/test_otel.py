from __future__ import annotations

import pytest

from notifyd.core.otel import exports_traces

SECRET = "hunter2"
TRACES = "OTEL_EXPORTER_OTLP_TRACES"
ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318"},
        ON | {"OTEL_TRACES_EXPORTER": "none"},
        ON | {"OTEL_SDK_DISABLED": "True"},
        ON | {"OTEL_SDK_DISABLED": "true", f"{TRACES}_PROTOCOL": "grpc"},
    ],
)
def test_off(environ: dict[str, str]) -> None:
    """Without an endpoint or an exporter, or where it is switched off, nothing is exported."""
    assert not exports_traces(environ)


@pytest.mark.parametrize(
    "environ",
    [
        ON,
        {f"{TRACES}_ENDPOINT": "https://[::1]/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        ON | {"OTEL_TRACES_EXPORTER": "OTLP", "OTEL_SDK_DISABLED": "false"},
        ON | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", f"{TRACES}_PROTOCOL": "http/protobuf"},
        ON | {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, Authorization=Basic YWJj==,"},
    ],
)
def test_on(environ: dict[str, str]) -> None:
    """An endpoint or the exporter switches it on."""
    assert exports_traces(environ)


@pytest.mark.parametrize("exporter", ["console", "zipkin", "otlp,console"])
def test_other_exporters(exporter: str) -> None:
    """An exporter that isn't there is refused."""
    with pytest.raises(ValueError, match=r'^OTEL_TRACES_EXPORTER must be "otlp" or "none"$'):
        exports_traces({"OTEL_TRACES_EXPORTER": exporter})


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", f"{TRACES}_PROTOCOL"])
def test_other_protocols(variable: str) -> None:
    """A protocol that isn't spoken is refused, and the one that is named."""
    with pytest.raises(ValueError, match="http/protobuf only"):
        exports_traces(ON | {variable: "grpc"})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"collector:4318/{SECRET}", "must be a URL"),
        (f"http:///{SECRET}", "must be a URL"),
        (f"http://[::1/{SECRET}", "must be a URL"),
        (f"http://collector:{SECRET}", "must be a URL"),
        (f"http://key:{SECRET}@collector:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        (f"http://collector:4318/?key={SECRET}", "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
@pytest.mark.parametrize("variable", [f"{TRACES}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_endpoints(variable: str, url: str, words: str) -> None:
    """An endpoint that is none, or has a place for secrets, is refused without being quoted."""
    with pytest.raises(ValueError, match=f"^{variable} .*{words}") as caught:
        exports_traces({variable: url})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        *(SECRET, f"api key={SECRET}", f"=x{SECRET}", f'api-key="{SECRET}"', f"a={SECRET};b"),
        *(f"a=b,{SECRET}", f"api-key={SECRET}%0A", f"api-key={SECRET}%FF", f"api%0a={SECRET}"),
    ],
)
@pytest.mark.parametrize("variable", [f"{TRACES}_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])
def test_headers(variable: str, headers: str) -> None:
    """Headers that can't be sent are refused before any library quotes them."""
    with pytest.raises(ValueError, match=f"^{variable} must be like ") as caught:
        exports_traces(ON | {variable: headers})
    assert SECRET not in str(caught.value)
