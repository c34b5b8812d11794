"""plan.json: a round trip, other machines, and files that nobody can use."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest

from extractor import Extractor, stored
from extractor.errors import PlanNotStored, ProviderUnavailable
from extractor.machine import machine
from extractor.plan import Plan, cores, default_plan
from extractor.spec import read_spec, verify_files
from extractor.stored import StoredPlan, choose_plan, read_plans, store_plan

TUNED = Plan(workers=3, max_batch_size=5, window=20)


@pytest.fixture
def folder(tiny_image: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_image, tmp_path / "copy")


def chosen(folder: Path, **changes: object) -> Plan:
    return choose_plan(folder, read_spec(folder), **changes)


def default(folder: Path) -> Plan:
    return default_plan(read_spec(folder).modality, chosen(folder).provider)


def test_what_is_stored_is_how_the_backbone_is_served(folder: Path) -> None:
    kept = StoredPlan(plan=TUNED, measured={"items_per_s": 7.5}, versions={"onnxruntime": "1"})
    before = read_spec(folder).fingerprint
    path = store_plan(folder, kept)
    assert path == folder / "plan.json"
    assert read_plans(folder) == {machine(): kept}
    assert [one.name for one in folder.glob(".*")] == []
    with Extractor.load(folder) as extractor:
        assert extractor.backbone.plan == TUNED
        assert extractor.fingerprint == before
    verify_files(folder, read_spec(folder))


def test_a_flag_changes_one_field_and_another_runtime_sets_the_plan_aside(folder: Path) -> None:
    store_plan(folder, StoredPlan(plan=TUNED))
    assert chosen(folder, workers=1, threads=None) == Plan(workers=1, max_batch_size=5, window=20)
    assert chosen(folder, provider="cpu") == TUNED
    pytest.importorskip("openvino")
    assert chosen(folder, runtime="openvino") == Plan(runtime="openvino", workers=cores())


def test_a_plan_given_by_the_caller_is_taken_as_it_is(folder: Path) -> None:
    store_plan(folder, StoredPlan(plan=TUNED))
    with Extractor.load(folder, plan=Plan(max_batch_size=2), workers=2) as extractor:
        assert extractor.backbone.plan == Plan(max_batch_size=2, workers=2)


def test_another_machines_plan_is_kept_and_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stored, "machine", lambda: "another machine, 64 cores")
        store_plan(folder, StoredPlan(plan=TUNED))
    assert chosen(folder) == default(folder)
    store_plan(folder, StoredPlan(plan=Plan(workers=2)))
    assert set(read_plans(folder)) == {"another machine, 64 cores", machine()}
    assert chosen(folder) == Plan(workers=2)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "[]",
        '{"format": 2, "machines": {}}',
        '{"format": 1, "machines": []}',
        json.dumps({"format": 1, "machines": {machine(): {"plan": {"speed": 9}, "measured": {}, "versions": {}}}}),
        json.dumps({"format": 1, "machines": {machine(): {"plan": {"workers": 0}, "measured": {}, "versions": {}}}}),
        json.dumps({"format": 1, "machines": {machine(): {"plan": {"workers": "2"}, "measured": {}, "versions": {}}}}),
        json.dumps({"format": 1, "machines": {machine(): {"plan": {}}}}),
    ],
)
def test_a_file_that_cannot_be_used_is_a_warning_and_the_default(
    folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "plan.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert chosen(folder) == default(folder)
    assert "plan.json is not used, the default plan is: " in caplog.text
    store_plan(folder, StoredPlan(plan=TUNED))
    assert chosen(folder) == TUNED


def test_a_runtime_that_is_gone_is_a_warning_and_the_default(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_plan(folder, StoredPlan(plan=Plan(runtime="openvino")))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.WARNING):
        assert chosen(folder) == default(folder)
    assert "openvino is not installed: pip install 'headwater[openvino]'" in caplog.text


def test_an_unknown_provider_is_an_error_whatever_is_stored(folder: Path) -> None:
    store_plan(folder, StoredPlan(plan=TUNED))
    with pytest.raises(ProviderUnavailable, match="no provider 'tpu'"):
        Extractor.load(folder, provider="tpu")


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "plan.json").mkdir()
    with pytest.raises(PlanNotStored, match=r"plan\.json cannot be written"):
        store_plan(folder, StoredPlan(plan=TUNED))
    assert [one.name for one in folder.glob(".*")] == []
