"""What shows of a server over real ports: what is scraped before and after calls, what is logged, what is echoed."""

import json
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from extractor import Extractor
from extractor.cache import facts_of
from extractor.cache.memory import MemoryCache
from extractor.cache.opened import open_cache
from extractor.errors import ExtractorError
from extractor.stages import BatchFacts
from headwater import logs
from headwater.errors import ServerNotStarted
from headwater.service import sight as sight_module
from headwater.service.metrics import Metrics, stage_of
from headwater.service.sight import LINES_PER_S, Sight, SightSettings
from headwater.status import all_errors
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import in_this_process
from tests.tiny import flat, png

ID = "x-request-id"
Samples = Counter[tuple[str, frozenset[tuple[str, str]]]]


@dataclass(frozen=True)
class Served:
    """A server of both tiny backbones with a metrics port."""

    stub: extractor_pb2_grpc.ExtractorServiceStub
    url: str
    extractors: dict[str, Extractor]

    def scrape(self) -> Samples:
        with urllib.request.urlopen(self.url, timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
            return Counter(
                {
                    (sample.name, frozenset(sample.labels.items())): sample.value
                    for family in families
                    for sample in family.samples
                }
            )

    def extract(self, backbone: str, items: Sequence[bytes], **options: object) -> pb.ExtractResponse:
        request = pb.ExtractRequest(backbone=backbone, items=[pb.Item(data=item) for item in items])
        return self.stub.Extract(request, timeout=30, **options)

    def after(self, before: Samples, name: str, **labels: str) -> float:
        """Return by how much a sample has grown."""
        key = (name, frozenset(labels.items()))
        return self.scrape()[key] - before[key]

    def wait_for(self, before: Samples, number: float, name: str, **labels: str) -> None:
        """Wait until a sample has grown so much: calls and batches are counted just after what they answer."""
        deadline = time.monotonic() + 20
        while self.after(before, name, **labels) < number:
            assert time.monotonic() < deadline, f"{name} {labels} never grew by {number}"
            time.sleep(0.01)

    def wait_for_requests(self, before: Samples, number: int, **labels: str) -> None:
        self.wait_for(before, number, "headwater_requests_total", **labels)


@contextmanager
def served(extractors: dict[str, Extractor]) -> Iterator[Served]:
    with (
        Sight.opened(SightSettings(metrics_port=0)) as sight,
        in_this_process(extractors, sight=sight) as server,
        grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        yield Served(extractor_pb2_grpc.ExtractorServiceStub(channel), sight.metrics_url, extractors)


@pytest.fixture(scope="module")
def server(tiny_image: Path, tiny_text: Path) -> Iterator[Served]:
    cache = MemoryCache(max_bytes=1 << 20)
    both = {folder.name: Extractor.load(folder, cache=cache, workers=1) for folder in (tiny_image, tiny_text)}
    with served(both) as one:
        yield one


def test_items_are_counted_by_how_they_were_answered(server: Served) -> None:
    before = server.scrape()
    server.extract("tiny-image", [png(flat(i)) for i in range(3)])
    server.extract("tiny-image", [png(flat(0)), png(flat(1)), b"", b"\0" * 50, png(flat(9))])
    server.wait_for_requests(before, 2, method="Extract", code="OK")
    server.wait_for(before, 4, "headwater_batch_size_sum", backbone="tiny-image")

    def grown(name: str, **labels: str) -> float:
        return server.after(before, name, backbone="tiny-image", **labels)

    assert grown("headwater_items_total", outcome="computed") == 4
    assert grown("headwater_items_total", outcome="cached") == 2
    assert grown("headwater_items_total", outcome="error") == 2
    for reason in ("EmptyItem", "UndecodableItem"):
        code = "INVALID_ARGUMENT"
        assert grown("headwater_item_errors_total", code=code, reason=reason, stage="decode") == 1
    assert grown("headwater_batch_size_sum") == grown("headwater_batch_cost_sum") == 4
    assert grown("headwater_batch_padding_total") == 0
    for stage in ("queue", "decode", "inference", "cache"):
        assert grown("headwater_stage_seconds_count", stage=stage) == 2
        assert grown("headwater_stage_seconds_sum", stage=stage) > 0
    assert server.after(before, "headwater_request_seconds_count", method="Extract") == 2
    now = server.scrape()
    tier = {"tier": "memory"}
    assert server.after(before, "headwater_cache_entries", **tier) == 4
    assert server.after(before, "headwater_cache_stored_total", **tier) == 4
    assert server.after(before, "headwater_cache_hits_total", **tier) == 2
    assert server.after(before, "headwater_cache_bytes", **tier) > 4 * 3 * 4
    assert now["headwater_cache_max_bytes", frozenset(tier.items())] == 1 << 20  # once, for both backbones
    assert now["headwater_cache_degraded", frozenset(tier.items())] == 0
    assert now["process_resident_memory_bytes", frozenset()] > 1 << 20


def test_backbones_that_share_a_folder_count_once_and_two_caches_of_a_kind_add_up(
    tiny_image: Path, tiny_text: Path, tmp_path: Path
) -> None:
    one, two = (Extractor.load(folder, cache=str(tmp_path / "one")) for folder in (tiny_image, tiny_text))
    three, four = (Extractor.load(tiny_image, cache=MemoryCache(max_bytes=1 << 20)) for _ in range(2))
    bound = open_store_bound(one)
    with served({"tiny-image": one, "tiny-text": two, "third": three, "fourth": four}) as server:
        for name in ("tiny-image", "third", "fourth"):
            server.extract(name, [png(flat(1)), png(flat(2))])
            server.extract(name, [png(flat(1))])
        server.extract("tiny-text", [b"red"])
        disk, memory = {"tier": "disk"}, {"tier": "memory"}
        server.wait_for(Counter(), 3, "headwater_cache_stored_total", **disk)
        now = server.scrape()
    for name, on_disk, in_memory in (
        ("headwater_cache_entries", 3, 4),
        ("headwater_cache_max_bytes", bound, 2 << 20),
        ("headwater_cache_hits_total", 1, 2),
        ("headwater_cache_evicted_total", 0, 0),
        ("headwater_cache_spoilt_total", 0, 0),
    ):
        assert now[name, frozenset(disk.items())] == on_disk, name
        assert now[name, frozenset(memory.items())] == in_memory, name
    assert now["headwater_cache_misses_total", frozenset(disk.items())] == 3


def open_store_bound(extractor: Extractor) -> int:
    (facts,) = facts_of([extractor.cache])
    assert facts.max_bytes is not None
    return facts.max_bytes


def test_a_tier_that_is_degraded_says_why_and_what_it_dropped(tiny_image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = Extractor.load(tiny_image, cache=str(tmp_path / "file"))  # no folder can be here
    with served({"tiny-image": broken}) as server:
        server.extract("tiny-image", [png(flat(1))])
        now = server.scrape()
    assert now["headwater_cache_degraded", frozenset({("tier", "disk")})] == 1
    (labels,) = (dict(labels) for name, labels in now if name == "headwater_cache_degraded_info")
    assert labels["tier"] == "disk"
    assert f"cannot keep embeddings in {tmp_path / 'file'}" in labels["reason"]
    assert not [key for key in now if key[0] in ("headwater_cache_entries", "headwater_cache_bytes")]  # it has none

    full = open_cache(str(tmp_path / "full"), min_free_mib=1 << 40)
    assert full is not None
    with closing(full), served({"tiny-image": Extractor.load(tiny_image, cache=full)}) as server:
        server.extract("tiny-image", [png(flat(1))])
        server.wait_for(Counter(), 1, "headwater_cache_dropped_total", tier="disk", reason="no room on disk")
        now = server.scrape()
    assert now["headwater_cache_degraded", frozenset({("tier", "disk")})] == 1
    assert now["headwater_cache_entries", frozenset({("tier", "disk")})] == 0


def test_a_name_that_is_not_served_is_counted_and_never_a_label(server: Served) -> None:
    before = server.scrape()
    with pytest.raises(grpc.RpcError):
        server.extract("a-name-of-theirs", [b"x"])
    server.wait_for_requests(before, 1, method="Extract", code="NOT_FOUND")
    errors = {"method": "Extract", "code": "NOT_FOUND", "reason": "BackboneNotFound", "stage": "request"}
    assert server.after(before, "headwater_request_errors_total", **errors) == 1
    assert not [key for key in server.scrape() if "a-name-of-theirs" in str(key)]


def test_a_method_that_nobody_serves_is_never_a_label() -> None:
    metrics = Metrics()
    metrics.ended("ANameOfTheirs", grpc.StatusCode.UNAUTHENTICATED, None, 0.1)
    metrics.ended("Extract", grpc.StatusCode.OK, None, 0.1)
    assert {
        sample.labels["method"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "headwater_requests_total"
    } == {"unknown", "Extract"}


def test_what_is_padded_is_told_apart_from_what_is_not() -> None:
    metrics = Metrics()
    metrics.batch("tiny-text", BatchFacts(n_items=2, cost=1 + 4, padded_cost=2 * 4, inference_s=0.1))
    label = {"backbone": "tiny-text"}
    assert metrics.registry.get_sample_value("headwater_batch_cost_sum", label) == 5
    assert metrics.registry.get_sample_value("headwater_batch_padding_total", label) == 3
    assert metrics.registry.get_sample_value("headwater_batch_size_sum", label) == 2


def test_batches_of_texts_that_differ_in_length_are_all_observed(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = server.extractors["tiny-text"]._batcher
    told, seen = batcher.on_batch, list[BatchFacts]()
    monkeypatch.setattr(batcher, "on_batch", lambda facts: (seen.append(facts), told(facts)))
    before = server.scrape()
    texts = [b" ".join(words) for n in (1, 2, 4) for words in permutations([b"red", b"green", b"blue", b"cat"], n)]
    server.extract("tiny-text", texts)
    n_tokens = sum(len(text.split()) for text in texts)
    server.wait_for(before, len(texts), "headwater_batch_size_sum", backbone="tiny-text")
    padded = sum(facts.padded_cost for facts in seen)
    assert server.after(before, "headwater_batch_cost_sum", backbone="tiny-text") == n_tokens
    assert server.after(before, "headwater_batch_padding_total", backbone="tiny-text") == padded - n_tokens
    assert server.after(before, "headwater_batch_size_sum", backbone="tiny-text") == len(texts)
    assert server.after(before, "headwater_batch_size_count", backbone="tiny-text") == len(seen)


def test_a_request_id_is_echoed_when_it_is_sound_and_else_made(server: Served) -> None:
    def echoed(sent: str | None, items: list[bytes], backbone: str = "tiny-image") -> str:
        request = pb.ExtractRequest(backbone=backbone, items=[pb.Item(data=item) for item in items])
        call = server.stub.Extract.future(request, metadata=[(ID, sent)] if sent is not None else [])
        call.exception()
        return dict(call.trailing_metadata())[ID]

    assert echoed("mine-42!", [png(flat(1))]) == "mine-42!"
    assert echoed("mine-43", [b"x"], backbone="nope") == "mine-43"
    fresh = {echoed(sent, []) for sent in (None, "has a space", "x" * 65)}
    assert len(fresh) == 3
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in fresh)


def test_gauges_tell_what_waits_and_callers_that_leave_or_are_late_are_counted_as_such(tiny_image: Path) -> None:
    go, entered = threading.Event(), threading.Event()
    extractor = Extractor.load(tiny_image, workers=1)
    forward = extractor.backbone.forward

    def held(arrays: Sequence[np.ndarray]) -> np.ndarray:
        entered.set()
        assert go.wait(20)
        return forward(arrays)

    extractor._batcher._forward = held
    with served({"tiny-image": extractor}) as one:
        before = one.scrape()
        label = frozenset({("backbone", "tiny-image")})
        assert before["headwater_backbone_serving", label] == 1
        running = one.stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=png(flat(1)))]))
        assert entered.wait(20)
        waiting = one.stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=png(flat(i))) for i in (2, 3)]))
        deadline = time.monotonic() + 20
        while (now := one.scrape())["headwater_queue_items", label] != 2:
            assert time.monotonic() < deadline
        assert now["headwater_queue_bytes", label] == sum(len(png(flat(i))) for i in (2, 3))
        assert now["headwater_queue_oldest_seconds", label] > 0
        assert now["headwater_running_calls", frozenset()] == 2
        waiting.cancel()
        one.wait_for_requests(before, 1, method="Extract", code="CANCELLED")
        with pytest.raises(grpc.RpcError):
            one.stub.Extract(pb.ExtractRequest(items=[pb.Item(data=png(flat(4)))]), timeout=0.1)
        one.wait_for_requests(before, 1, method="Extract", code="DEADLINE_EXCEEDED")
        go.set()
        running.result(20)
        one.wait_for_requests(before, 1, method="Extract", code="OK")


def test_a_taken_metrics_port_is_an_error_that_says_what_to_do() -> None:
    with Sight.opened(SightSettings(metrics_port=0)) as one:
        port = int(one.metrics_url.removesuffix("/metrics").rpartition(":")[2])
        with (
            pytest.raises(ServerNotStarted, match=f"metrics on 127.0.0.1:{port}.*--metrics-port"),
            Sight.opened(SightSettings(metrics_port=port)),
        ):
            pass
    with pytest.raises(urllib.error.URLError):  # and it is closed at the end
        urllib.request.urlopen(one.metrics_url, timeout=5)


def test_who_connects_and_says_nothing_is_let_go_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headwater.service.metrics_port.TIMEOUT_S", 0.1)
    with Sight.opened(SightSettings(metrics_port=0)) as one:
        port = int(one.metrics_url.removesuffix("/metrics").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            assert silent.recv(1) == b""
        with urllib.request.urlopen(one.metrics_url, timeout=10) as reply:
            assert reply.status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_every_error_has_a_stage() -> None:
    stages = {kind.__name__: stage_of(kind("why")) for kind in all_errors()}
    assert set(stages.values()) == {"door", "request", "queue", "decode", "inference"}
    assert stages["ItemTooLarge"] == "decode"
    assert stages["QueueFull"] == "queue"
    assert stages[ExtractorError.__name__] == "request"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the formatter of JSON makes of our log records."""
    found: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(logs.JsonLines())
    monkeypatch.setattr(handler, "emit", lambda record: found.append(handler.format(record)))
    logger = logging.getLogger("headwater")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    logger.manager._clear_cache()
    yield found
    logger.removeHandler(handler)
    logger.manager._clear_cache()


def ended(lines: list[str], number: int) -> list[dict[str, object]]:
    """Wait until so many lines of ended calls are there, and return them."""
    deadline = time.monotonic() + 20
    while len(calls := [line for line in map(json.loads, lines) if "method" in line]) < number:
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    return calls


def test_a_failed_call_has_a_line_of_json_and_a_good_one_has_not(server: Served, lines: list[str]) -> None:
    server.extract("tiny-image", [png(flat(1))])
    with pytest.raises(grpc.RpcError):
        server.extract("n" * 5000, [b"secret item"], metadata=[(ID, "mine-1"), ("authorization", "Bearer s3cret")])
    (line,) = ended(lines, 1)
    assert line["request_id"] == "mine-1"
    assert (line["method"], line["code"], line["level"]) == ("Extract", "NOT_FOUND", "INFO")
    assert line["items"] == 0
    assert str(line["caller"]).startswith("ipv4:127.0.0.1:")  # of a caller without a key
    assert float(str(line["ms"])) > 0
    assert str(line["time"]).endswith("+00:00")
    assert len(str(line["message"])) < 500
    assert "s3cret" not in lines[0]
    assert "secret item" not in lines[0]


def test_at_debug_every_call_has_a_line(server: Served, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("headwater"), "level", logging.DEBUG)
    logging.getLogger("headwater").manager._clear_cache()
    server.extract("tiny-image", [png(flat(1)), b""], metadata=[(ID, "mine-2")])
    (line,) = ended(lines, 1)
    assert (line["request_id"], line["code"], line["items"], line["level"]) == ("mine-2", "OK", 2, "DEBUG")
    for _ in range(5 * LINES_PER_S):
        with pytest.raises(grpc.RpcError):
            server.extract("nope", [])
    assert len(ended(lines, 1 + 5 * LINES_PER_S)) == 1 + 5 * LINES_PER_S


def test_a_slow_call_has_a_line(server: Served, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight_module, "SLOW_S", 0.0)
    server.extract("tiny-image", [png(flat(1))])
    (line,) = ended(lines, 1)
    assert (line["code"], line["level"]) == ("OK", "INFO")


def test_the_next_line_says_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 1.5)
    monkeypatch.setattr(sight_module, "time", clock)
    budget = sight_module._Budget()
    assert [budget.spend() for _ in range(LINES_PER_S + 3)] == [True] * LINES_PER_S + [False] * 3
    clock.monotonic = lambda: 2.0
    assert budget.spend()
    assert (budget.left_out(), budget.left_out()) == (3, 0)


def test_many_failing_calls_do_not_fill_the_log(server: Served, lines: list[str]) -> None:
    before = server.scrape()
    begun = int(time.monotonic())
    for _ in range(60):
        with pytest.raises(grpc.RpcError):
            server.extract("nope", [b"x"])
    server.wait_for_requests(before, 60, method="Extract", code="NOT_FOUND")
    seconds = int(time.monotonic()) - begun + 1
    assert 1 <= len(ended(lines, 1)) <= min(60, LINES_PER_S * seconds)
