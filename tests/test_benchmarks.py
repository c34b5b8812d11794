"""The benchmarks, where they would be asked for what cannot be: each says so in a line."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=BENCHMARKS)


def test_another_precision_without_its_runtime_is_told_of() -> None:
    code = "import sys; sys.modules['openvino'] = None; from backbone import ensure; ensure('minilm-l6@bf16')"
    done = python("-c", code)
    assert done.returncode == 1
    assert done.stderr == (
        "minilm-l6@bf16 is not to be had here: openvino is not installed: pip install 'headwater[openvino]'; "
        "or name other backbones\n"
    )


@pytest.mark.parametrize("script", ["bench_server.py", "bench_text.py"])
def test_a_name_that_is_none_is_told_of(script: str) -> None:
    done = python(script, "--only", "service,servce")
    assert done.returncode == 2
    assert "argument --only: servce: choose among" in done.stderr


@pytest.mark.parametrize(("flag", "known"), [("--only", "photos"), ("--peers", "fastembed")])
def test_a_part_or_a_peer_of_dumps_that_is_none_is_told_of(flag: str, known: str) -> None:
    done = python("bench_dump.py", flag, f"{known},{known[:-1]}")
    assert done.returncode == 2
    assert f"argument {flag}: {known[:-1]}: choose among" in done.stderr


@pytest.mark.parametrize(("n_items", "n_parts"), [(7, 3), (4, 1)])
def test_the_texts_of_a_dump_are_shared_out_to_rounds(n_items: int, n_parts: int) -> None:
    code = f"""
import tempfile
from pathlib import Path
import bench_dump
bench_dump.find_backbone = lambda name: Path()
bench_dump.texts = lambda tokenizer, n: [f"text {{i}}" for i in range(n)]
with tempfile.TemporaryDirectory() as folder:
    parts = bench_dump.parts_of("texts", {n_items}, {n_parts}, Path(folder))
    assert [part.start for part in parts] == [sum(len(one.items) for one in parts[:i]) for i in range({n_parts})]
    assert len(parts[0].first(1).source.read_text().splitlines()) == 1
    print(sum(len(part.source.read_text().splitlines()) for part in parts))
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, f"{n_items}\n"), done.stderr


def test_a_package_that_is_not_installed_costs_no_result() -> None:
    done = python("-c", "import record; record.PACKAGES = ('numpy', 'no-such'); print(*record._versions())")
    assert (done.returncode, done.stdout) == (0, "numpy\n"), done.stderr


def test_padding_is_read_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    code = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import padding

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        page = b'headwater_batch_cost_sum{backbone="a"} 3.0\\nheadwater_batch_padding_total{backbone="a"} 1.0\\n'
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)

server = HTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(padding.read(server.server_port).waste)
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, "0.25\n"), done.stderr
