"""`headwater export` that is told to stop."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from extractor.errors import BackboneNotFound
from headwater.commands.export import export_with_progress

SLOW = """
    <ir_version: 8, opset_import: ["" : 17]>
    graph (float[n,4] x) => (float[n,4] y) {
        turns = Constant<value = int64 {300000}>()
        go = Constant<value = bool {1}>()
        y = Loop<body = body (int64 i, bool c, float[n,4] s) => (bool d, float[n,4] t) {
            d = Identity(c)
            t = Tanh(s)
        }>(turns, go, x)
    }
"""
WAIT_S = 30


def test_sigterm_leaves_nothing(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(SLOW), tmp_path / "slow.onnx")
    command = [sys.executable, "-m", "headwater", "export", f"onnx:{tmp_path / 'slow.onnx'}", "--layer", "y"]
    env = {**os.environ, "HEADWATER_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + WAIT_S
    while not list((tmp_path / "home" / "backbones").glob(".slow.*.new")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.endswith("stopped by SIGTERM: nothing was made\n")
    assert list((tmp_path / "home" / "backbones").iterdir()) == []


def test_an_export_by_a_thread_takes_no_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool, pytest.raises(BackboneNotFound):
        pool.submit(export_with_progress, "none").result()
    with pytest.raises(BackboneNotFound):
        export_with_progress("none")
    assert signal.getsignal(signal.SIGTERM) is before
