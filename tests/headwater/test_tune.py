"""`headwater tune` as a user runs it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from extractor import Extractor
from extractor.machine import machine
from extractor.plan import Plan
from extractor.spec import read_spec
from extractor.tune.candidates import Candidate
from extractor.tune.search import Report, Row
from extractor.tune.speed import Speed
from headwater.commands.tune import _propose
from tests.headwater.test_commands import headwater
from tests.runtimes import needs_bf16, needs_openvino
from tests.tiny import write_tiny_dense, write_tiny_layers


def test_a_backbone_is_tuned_and_served_so(tmp_path: Path) -> None:
    folder = write_tiny_dense(tmp_path / "dense")
    fingerprint = read_spec(folder).fingerprint
    done = headwater("tune", folder, "--seconds", "0", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was kept" in done.stdout
    assert not (folder / "plan.json").exists()
    done = headwater("tune", folder, "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    assert "items/s" in done.stdout
    assert f"kept in {folder / 'plan.json'}" in done.stdout
    plan = json.loads((folder / "plan.json").read_text())["machines"][machine()]["plan"]
    with Extractor.load(folder) as extractor:
        assert extractor.backbone.plan.__dict__ == plan
        assert extractor.fingerprint == fingerprint


@needs_bf16
def test_another_precision_is_made_by_name_and_listed(tmp_path: Path) -> None:
    folder = write_tiny_dense(tmp_path / "backbones" / "dense")
    done = headwater("export", "dense", "--precision", "bf16", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "serve it: headwater serve dense@bf16" in done.stdout
    listed = headwater("backbones", home=tmp_path).stdout
    made = tmp_path / "backbones" / "dense@bf16"
    assert read_spec(made).fingerprint in listed
    assert read_spec(folder).fingerprint in listed
    assert "openvino cpu" in listed


def test_a_plan_that_cannot_be_kept_is_printed(tmp_path: Path) -> None:
    folder = write_tiny_dense(tmp_path / "dense")
    (folder / "plan.json").mkdir()
    done = headwater("tune", folder, "--seconds", "0")
    assert done.returncode == 1
    assert "plan.json cannot be written" in done.stderr
    assert "give the plan to headwater serve: --runtime " in done.stderr


@needs_openvino
def test_flags_of_serve_say_how_a_backbone_is_run(tiny_image: Path) -> None:
    command = [sys.executable, "-m", "headwater", "serve", str(tiny_image), "--port", "0"]
    flags = ["--runtime", "openvino", "--workers", "2", "--threads", "1", "--max-batch-size", "3"]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("headwater serves tiny-image")
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "3-d, openvino cpu fp32, 2 × 1 threads, fingerprint" in errors.replace("\n", " ")
    done = headwater("serve", tiny_image, "--port", "0", "--runtime", "torch")
    assert done.returncode == 1
    assert "runtime is 'torch', not one of onnxruntime, openvino" in done.stderr


def test_items_of_ones_own_that_cannot_be_used_are_named(tiny_image: Path, tmp_path: Path) -> None:
    done = headwater("tune", tiny_image, "--items", tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path} has 0 different items" in done.stderr.replace("\n", "")


def test_what_is_proposed_is_held_to_the_items_that_were_measured_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_layers(tmp_path / "layers")
    speed = Speed(items_per_s=10, p50_ms=1, p99_ms=1, cpu_ms=1)
    best = Row(candidate=Candidate("fp32", Plan()), folder=folder, rounds=[speed])
    faster = Row(candidate=Candidate("bf16", Plan()), folder=folder, rounds=[replace(speed, items_per_s=20)])
    report = Report(rows=[best, faster], best=best, proposals=[faster])
    items = tmp_path / "my items"
    _propose(report, str(folder), items)
    said = capsys.readouterr().out
    assert f"headwater export {folder} --precision bf16 --held '{items}'\n  headwater tune layers@bf16" in said
    _propose(report, str(folder), None)
    assert "--held" not in capsys.readouterr().out
