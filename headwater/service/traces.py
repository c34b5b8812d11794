"""Calls -> OpenTelemetry spans, sent in batches to an OTLP endpoint; imported only where there is one.

Each call is a server span under the `traceparent` that came with it. The times of its stages are sums over items that
run side by side, so they are an event's attributes and not child spans, whose begin and end nobody could name.

OpenTelemetry's own variables hold for the rest: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from extractor.stages import StageTimes
from headwater.service.methods import SERVICE_OF

if TYPE_CHECKING:
    from headwater.service.calls import Call

FLUSH_S = 3.0  # that a stop gives the endpoint to take the last spans

# What OpenTelemetry's conventions count as the server's errors, not its callers'.
_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class Traces:
    """The spans of a server's running calls.

    Parameters
    ----------
    provider : TracerProvider
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("headwater")
        self._propagator = TraceContextTextMapPropagator()
        self._spans: dict[Call, Span] = {}

    @classmethod
    @contextmanager
    def opened(cls, endpoint: str) -> "Iterator[Traces]":
        """Send spans to `endpoint` (`http://host:4317`; https for TLS); the last are sent when the block ends."""
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=FLUSH_S)
        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "headwater")})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=FLUSH_S * 1000))
        try:
            yield cls(provider)
        finally:
            provider.shutdown()

    def began(self, call: "Call") -> None:
        """Open a call's span."""
        service = SERVICE_OF.get(call.method, "")
        self._spans[call] = self._tracer.start_span(
            f"{service}/{call.method}".lstrip("/"),
            self._propagator.extract({key: [str(value)] for key, value in call.metadata.items()}),
            SpanKind.SERVER,
            {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": call.method,
                "headwater.request_id": call.request_id,
            },
        )

    def extracted(self, call: "Call", backbone: str, n_items: int, times: StageTimes) -> None:
        """Note the answered items of a call and where their time went."""
        span = self._spans[call]
        span.set_attributes({"headwater.backbone": backbone, "headwater.items": call.n_items})
        facts = {f"headwater.{name}": value for name, value in vars(times).items()}
        span.add_event("extracted", {"headwater.backbone": backbone, "headwater.items": n_items, **facts})

    def ended(self, call: "Call", code: grpc.StatusCode) -> None:
        """Close a call's span."""
        span = self._spans.pop(call)
        span.set_attributes({"rpc.grpc.status_code": code.value[0], "headwater.caller": call.caller.name})
        if call.error is not None:
            span.set_attribute("error.type", type(call.error).__name__)
        if code in _ERRORS:
            span.set_status(StatusCode.ERROR, code.name)
        span.end()
