"""`headwater top`: the arithmetic on scrapes written by hand, and the view of a real server."""

import socket
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from rich.console import Console

from extractor import Extractor
from extractor.cache.memory import MemoryCache
from headwater import Client
from headwater.commands.top import _view, views
from headwater.service.sight import Sight, SightSettings
from headwater.top import backbone_rows, cache_rows, method_rows, parse, quantile, server_facts
from tests.inprocess import in_this_process
from tests.tiny import flat, png

BEFORE = """
headwater_backbone_serving{backbone="a"} 1
headwater_requests_total{code="OK",method="Extract"} 100
headwater_items_total{backbone="a",outcome="computed"} 1000
headwater_batch_size_sum{backbone="a"} 1000
headwater_batch_size_count{backbone="a"} 500
headwater_batch_cost_sum{backbone="a"} 9000
headwater_batch_padding_total{backbone="a"} 1
headwater_request_seconds_bucket{le="0.01",method="Extract"} 100
headwater_request_seconds_bucket{le="0.02",method="Extract"} 100
headwater_request_seconds_bucket{le="+Inf",method="Extract"} 100
"""
AFTER = """
headwater_backbone_serving{backbone="a"} 0
headwater_requests_total{code="OK",method="Extract"} 106
headwater_requests_total{code="NOT_FOUND",method="Extract"} 4
headwater_items_total{backbone="a",outcome="computed"} 1030
headwater_items_total{backbone="a",outcome="cached"} 60
headwater_items_total{backbone="a",outcome="error"} 10
headwater_batch_size_sum{backbone="a"} 1040
headwater_batch_size_count{backbone="a"} 510
headwater_batch_cost_sum{backbone="a"} 9090
headwater_batch_padding_total{backbone="a"} 11
headwater_request_seconds_bucket{le="0.01",method="Extract"} 105
headwater_request_seconds_bucket{le="0.02",method="Extract"} 110
headwater_request_seconds_bucket{le="+Inf",method="Extract"} 110
headwater_queue_items{backbone="a"} 7
headwater_queue_oldest_seconds{backbone="a"} 0.25
headwater_running_calls 3
headwater_cache_degraded{tier="disk"} 1
headwater_cache_degraded{tier="memory"} 0
headwater_cache_degraded_info{reason="no room",tier="disk"} 1
headwater_cache_entries{tier="disk"} 12
headwater_cache_bytes{tier="disk"} 1048576
headwater_cache_max_bytes{tier="disk"} 8388608
headwater_cache_hits_total{tier="disk"} 9
headwater_cache_misses_total{tier="disk"} 3
headwater_cache_dropped_total{reason="error",tier="disk"} 2
headwater_cache_dropped_total{reason="queue full",tier="disk"} 4
process_resident_memory_bytes 1048576
"""


def test_rates_shares_and_quantiles_are_of_what_happened_in_between() -> None:
    before, after = parse(BEFORE, 10.0), parse(AFTER, 12.0)
    (row,) = backbone_rows(before, after)
    assert (row.backbone, row.serving) == ("a", False)
    assert (row.items_per_s, row.cached_share, row.errors_per_s) == (50.0, 0.6, 5.0)
    assert (row.queue_items, row.queue_oldest_s) == (7, 0.25)
    assert (row.batch_mean, row.padding_share) == (4.0, 0.1)
    (method,) = method_rows(before, after)
    assert (method.calls_per_s, method.failed_per_s) == (5.0, 2.0)
    assert method.p50_s == pytest.approx(0.01)
    assert method.p99_s == pytest.approx(0.0198)
    facts = server_facts(after)
    assert (facts.running_calls, facts.memory_bytes) == (3, 1 << 20)
    disk, memory = cache_rows(before, after)
    assert (disk.tier, disk.degraded, disk.entries) == ("disk", "no room", 12)
    assert (disk.n_bytes, disk.max_bytes) == (1 << 20, 8 << 20)
    assert (disk.look_ups_per_s, disk.hit_share, disk.dropped_per_s) == (6.0, 0.75, 3.0)
    assert (memory.tier, memory.degraded, memory.entries, memory.hit_share) == ("memory", "", None, None)


def test_a_server_that_began_anew_counts_from_nought() -> None:
    (row,) = backbone_rows(parse(AFTER, 10.0), parse(BEFORE, 12.0))
    assert row.items_per_s == 500.0


def test_where_nothing_happened_there_are_no_shares() -> None:
    (row,) = backbone_rows(parse(AFTER, 10.0), parse(AFTER, 11.0))
    assert (row.items_per_s, row.cached_share, row.batch_mean, row.padding_share) == (0.0, None, None, None)
    (method,) = method_rows(parse(AFTER, 10.0), parse(AFTER, 11.0))
    assert (method.p50_s, method.p99_s) == (None, None)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)],
)
def test_a_quantile_is_linear_within_its_bucket(share: float, expected: float) -> None:
    assert quantile(share, {1.0: 10, 2.0: 20, inf: 20}) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(0.99, {1.0: 10, 2.0: 10, inf: 20}) == 2.0
    assert quantile(0.5, {}) is None


def shown(view: object) -> str:
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(view)
        return console.export_text()


def test_views_wait_for_a_server_and_then_tell_what_it_does(tiny_image: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = views(f"http://127.0.0.1:{port}/metrics")
    assert "no metrics at" in shown(next(live))
    assert "trying again" in shown(next(live))
    extractor = Extractor.load(tiny_image, cache=MemoryCache(max_bytes=1 << 20))
    with (
        Sight.opened(SightSettings(metrics_port=port)) as sight,
        in_this_process({"tiny-image": extractor}, sight=sight) as server,
        Client(server.address) as client,
    ):
        assert "measuring" in shown(next(live))
        client.extract([png(flat(1)), png(flat(2))])
        client.extract([png(flat(1)), png(flat(2))])
        view = shown(next(live))
    assert "no metrics at" in shown(next(live))
    row = next(line for line in view.splitlines() if "tiny-image" in line)
    assert " ok " in row
    assert "50%" in row
    assert "Extract" in view
    (tier,) = (line.split() for line in view.splitlines() if line.split()[:1] == ["memory"])
    assert tier[:3] == ["memory", "ok", "2"]
    assert "degraded" not in view


def test_the_view_says_why_a_tier_is_degraded() -> None:
    view = shown(_view(parse(BEFORE, 10.0), parse(AFTER, 12.0)))
    assert "disk cache degraded: no room" in view
    tier = next(line.split() for line in view.splitlines() if line.split()[:1] == ["disk"])
    assert tier == ["disk", "degraded", "12", "1.0", "8.0", "6.0", "75%", "3.0"]


def test_once_prints_one_view_and_ends(tiny_image: Path) -> None:
    with (
        Sight.opened(SightSettings(metrics_port=0)) as sight,
        in_this_process({"tiny-image": Extractor.load(tiny_image)}, sight=sight) as server,
    ):
        done = run(sight.metrics_url)
        other = run(f"http://{server.address}/metrics")
    assert done.returncode == 0, done.stderr
    assert "tiny-image" in done.stdout
    assert "0 calls run" in done.stdout
    for failed in (other, run(sight.metrics_url)):
        assert failed.returncode == 1
        assert "no metrics at http://127.0.0.1" in failed.stderr
        assert "Traceback" not in failed.stderr


def test_no_proxy_stands_between_this_machine_and_itself(tiny_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with (
        Sight.opened(SightSettings(metrics_port=0)) as sight,
        in_this_process({"tiny-image": Extractor.load(tiny_image)}, sight=sight),
    ):
        assert "measuring" in shown(next(views(sight.metrics_url)))


def run(target: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headwater", "top", target, "--once", "--interval-s", "0.1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
