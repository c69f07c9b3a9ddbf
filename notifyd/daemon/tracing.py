"""Traces: spans of how events went through the daemon, if the environment asks for them.

OpenTelemetry is imported then only, by `tracing_spans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from notifyd.core.otel import exports_traces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifyd.daemon.tracing_spans import Spans

log = structlog.stdlib.get_logger()


def start(environ: Mapping[str, str]) -> Spans | None:
    """Return what makes spans and has them sent, None if that isn't asked for or can't be done.

    Whatever is wrong with it is a warning: events matter more than their traces. The libraries are
    those of the site's virtual environment, which must be active, or those beside notifyd.
    """
    try:
        if not exports_traces(environ):
            return None
        from notifyd.daemon.tracing_spans import Spans  # noqa: PLC0415 - an optional part

        spans = Spans()
    except ImportError as error:
        detail = (
            f"OpenTelemetry is not installed ({error}): the site's virtual environment needs"
            " opentelemetry-exporter-otlp-proto-http, or notifyd's own has to have it:"
            " pip install 'notifyd[opentelemetry]'"
        )
    except Exception as error:  # noqa: BLE001 - libraries of others, with variables of their own
        detail = str(error)
    else:
        log.info("tracing.started")
        return spans
    log.warning("tracing.unavailable", detail=detail)
    return None
