"""Traces, as a real OTLP receiver gets them."""

import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from extractor import Extractor
from headwater.errors import ServerNotStarted
from headwater.service.sight import Sight, SightSettings
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import in_this_process
from tests.tiny import flat, png

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for one in request.resource_spans:
            named = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            self.services.add(named["service.name"])
            self.spans.extend(span for scope in one.scope_spans for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def facts(attributes: object) -> dict[str, object]:
    """Return the attributes of a span or an event as a dict."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def make_calls(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        items = [pb.Item(data=png(flat(1))), pb.Item(data=png(flat(2)))]
        metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine-1")]
        stub.Extract(pb.ExtractRequest(items=items), metadata=metadata)
        with pytest.raises(grpc.RpcError):
            stub.Extract(pb.ExtractRequest(backbone="nope"), metadata=[("traceparent", "not one")])


def test_a_call_is_a_span_under_its_callers_with_its_stage_times(tiny_image: Path) -> None:
    with receiving() as (receiver, endpoint):
        with (
            Sight.opened(SightSettings(otlp_endpoint=endpoint)) as sight,
            in_this_process({"tiny-image": Extractor.load(tiny_image)}, sight=sight) as server,
        ):
            make_calls(server.address)
        good, bad = receiver.spans  # flushed when the sight closed
    assert receiver.services == {"headwater"}
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (TRACE, PARENT)
    assert good.name == "headwater.v1.ExtractorService/Extract"
    assert good.kind == Span.SPAN_KIND_SERVER
    about_good = facts(good.attributes)
    assert str(about_good.pop("headwater.caller")).startswith("ipv4:127.0.0.1:")
    assert about_good == {
        "rpc.system": "grpc",
        "rpc.service": "headwater.v1.ExtractorService",
        "rpc.method": "Extract",
        "rpc.grpc.status_code": 0,
        "headwater.request_id": "mine-1",
        "headwater.backbone": "tiny-image",
        "headwater.items": 2,
    }
    (event,) = good.events
    assert event.name == "extracted"
    times = facts(event.attributes)
    assert {"headwater.queue_ms", "headwater.decode_ms", "headwater.inference_ms", "headwater.cache_ms"} <= set(times)
    assert 0 < times["headwater.decode_ms"] + times["headwater.inference_ms"] < 60_000
    assert good.status.code == Status.STATUS_CODE_UNSET
    assert bad.parent_span_id == b""  # what is no traceparent is none
    assert facts(bad.attributes)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert facts(bad.attributes)["error.type"] == "BackboneNotFound"
    assert bad.status.code == Status.STATUS_CODE_UNSET  # the caller's error, not the server's


def test_an_endpoint_that_is_not_there_keeps_neither_calls_nor_the_stop(
    tiny_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.service.traces.FLUSH_S", 0.5)
    with receiving() as (_, endpoint):
        pass
    with (
        Sight.opened(SightSettings(otlp_endpoint=endpoint)) as sight,
        in_this_process({"tiny-image": Extractor.load(tiny_image)}, sight=sight) as server,
    ):
        make_calls(server.address)
        begun = time.monotonic()
    assert time.monotonic() - begun < 10


def test_an_endpoint_without_a_scheme_is_an_error() -> None:
    with (
        pytest.raises(ServerNotStarted, match=r"'localhost:4317'.*http://host:4317"),
        Sight.opened(SightSettings(otlp_endpoint="localhost:4317")),
    ):
        pass


def test_an_endpoint_without_the_extra_is_an_error_with_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headwater.service.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with (
        pytest.raises(ServerNotStarted, match=r"http://127.0.0.1:4317.*pip install 'headwater\[otel\]'"),
        Sight.opened(SightSettings(otlp_endpoint="http://127.0.0.1:4317")),
    ):
        pass
