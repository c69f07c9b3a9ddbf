"""What OpenTelemetry's environment variables ask of the daemon: whether traces are exported.

OpenTelemetry Specification, "Environment Variable Specification" and "OpenTelemetry Protocol
Exporter". The libraries read them again, and would quote in logs what they don't understand, so
what may hold a secret is judged here before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

# A name as RFC 9110 has it (section 5.6.2) but for the per cent sign, and what the libraries take
# for a value; then what that stands for, which has to be fit for a header.
_HEADER: Final = re.compile(
    r"[A-Za-z0-9!#$&'*+.^_`|~-]+\s*=([\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)", re.ASCII
)
_VALUE: Final = re.compile(r"[\x20-\x7e]*", re.ASCII)


def exports_traces(environ: Mapping[str, str]) -> bool:
    """Tell whether the variables ask for traces, sent by OTLP.

    Raises ValueError if they ask for what can't be done; it quotes nothing that may be secret.
    """
    if _value(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return False
    exporter = _value(environ, "OTEL_TRACES_EXPORTER").lower()
    if exporter == "none" or not (exporter or _value(environ, *_ENDPOINTS)):
        return False
    if exporter not in {"", "otlp"}:
        raise ValueError('OTEL_TRACES_EXPORTER must be "otlp" or "none"')
    if _value(environ, *_PROTOCOLS).lower() not in {"", "http/protobuf"}:
        raise ValueError(
            "notifyd sends by http/protobuf only; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to that,"
            " and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the address for it"
        )
    for name in _ENDPOINTS:
        _check_endpoint(name, _value(environ, name))
    for name in _HEADERS:
        _check_headers(name, _value(environ, name))
    return True


def _value(environ: Mapping[str, str], *names: str) -> str:
    """Return the first of some variables that is set; an empty one counts as unset."""
    return next((text for name in names if (text := environ.get(name, "").strip())), "")


def _check_endpoint(name: str, text: str) -> None:
    if not text:
        return
    try:
        url = urlsplit(text)
        complete = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(f'{name} must be a URL like "http://localhost:4318"')
    # When a collector can't be reached, that is logged with the query.
    if "@" in url.netloc or url.query:
        raise ValueError(
            f"{name} has a user or a query, which may be secret;"
            " put what the collector asks for into OTEL_EXPORTER_OTLP_HEADERS"
        )


def _check_headers(name: str, text: str) -> None:
    for part in filter(None, map(str.strip, text.split(","))):
        header = _HEADER.fullmatch(part)
        if header is None or _VALUE.fullmatch(unquote(header[1])) is None:
            raise ValueError(
                f'{name} must be like "name=value,name=value", other signs as %XX with their code'
            )
