"""Two runtimes behind one page: they agree in fp32, and compute in the precision that was asked for."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extractor import Extractor, runtime
from extractor.backbone import Backbone
from extractor.errors import BackboneInvalid, ProviderUnavailable, RuntimeMissing
from extractor.golden import TOLERANCES, within
from extractor.plan import Plan
from extractor.spec import read_spec
from tests.runtimes import needs_bf16, needs_openvino
from tests.tiny import SIZE, WORDS, write_tiny_dense

pytestmark = needs_openvino
OPENVINO = Plan(runtime="openvino", workers=2)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dense(tmp_path_factory.mktemp("runtime") / "dense")


def load(folder: Path, plan: Plan, precision: str = "fp32") -> Backbone:
    return Backbone.load(folder, replace(read_spec(folder), precision=precision), plan)


def images(n: int) -> list[np.ndarray]:
    draw = np.random.default_rng(n)
    return [draw.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(n)]


def texts(n: int) -> list[np.ndarray]:
    draw = np.random.default_rng(n)
    return [draw.integers(0, len(WORDS), draw.integers(1, 7)) for _ in range(n)]


def test_openvino_gives_what_onnxruntime_gives_to_many_threads_at_once(dense: Path, tiny_text: Path) -> None:
    for folder, make in ((dense, images), (tiny_text, texts)):
        batches = [make(n) for n in range(1, 9)] * 8
        first = load(folder, Plan())
        expected = [first.forward(batch) for batch in batches]
        other = load(folder, OPENVINO)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(other.forward, batches))
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == np.float32
            assert within(a, b, TOLERANCES["fp32"])


FIRST_AT_ONCE = """
import sys
from threading import Barrier, Thread
import numpy
from extractor.runtime import openvino
openvino.version()
sys.setswitchinterval(1e-6)
together = Barrier(8)
def first():
    together.wait()
    sys.modules["openvino"].Type.f32.to_dtype()
threads = [Thread(target=first) for _ in range(8)]
for thread in threads:
    thread.start()
"""


def test_threads_that_are_the_first_at_once_do_not_stand_still() -> None:
    for _ in range(3):  # without a first one alone, most of these never end
        subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], check=True, timeout=60)


def test_an_answer_is_not_overwritten_by_the_next(dense: Path) -> None:
    backbone = load(dense, OPENVINO)
    first, second = images(2)
    kept = backbone.forward([first])
    before = kept.copy()
    backbone.forward([second])
    assert np.array_equal(kept, before)


@needs_bf16
def test_the_precision_is_the_one_that_was_asked_for(dense: Path) -> None:
    batch = images(8)
    reference = load(dense, Plan()).forward(batch)
    fp32, bf16 = load(dense, OPENVINO), load(dense, OPENVINO, "bf16")
    assert within(fp32.forward(batch), reference, TOLERANCES["fp32"])
    assert not within(bf16.forward(batch), reference, TOLERANCES["fp32"])
    assert within(bf16.forward(batch), reference, TOLERANCES["bf16"])


@needs_bf16
def test_a_session_is_compiled_as_its_plan_says(dense: Path) -> None:
    plan = Plan(runtime="openvino", workers=1, threads=2)
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        session = runtime.open_session(dense / "model.onnx", precision, plan)
        compiled = session.compiled
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == hint
        assert compiled.get_property("NUM_STREAMS") == 1
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 2


def test_onnxruntime_has_no_bf16_and_says_who_has(dense: Path) -> None:
    with pytest.raises(ProviderUnavailable, match=r"onnxruntime has no bf16 .* only fp32"):
        load(dense, Plan(), "bf16")


@needs_bf16
def test_a_backbone_in_bf16_finds_its_runtime_by_itself(dense: Path, tmp_path: Path) -> None:
    from extractor.derive import derive

    with Extractor.load(derive(dense, "bf16", tmp_path / "dense")) as extractor:
        assert str(extractor.backbone).startswith("openvino cpu bf16, ")


def test_what_is_not_there_is_an_error(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderUnavailable, match="runtime is 'torch', not one of onnxruntime, openvino"):
        load(dense, Plan(runtime="torch"))
    with pytest.raises(ProviderUnavailable, match="openvino has no provider 'cuda' here, only cpu"):
        load(dense, replace(OPENVINO, provider="cuda"))
    with pytest.raises(ProviderUnavailable, match="no runtime computes in fp4"):
        runtime.default("fp4")
    monkeypatch.setitem(sys.modules, "openvino", None)
    for ask in (lambda: load(dense, OPENVINO), lambda: runtime.default("bf16")):
        with pytest.raises(RuntimeMissing, match=r"pip install 'headwater\[openvino\]'"):
            ask()
    assert list(runtime.available()) == ["onnxruntime"]
    assert runtime.default("fp32")[0] == "onnxruntime"


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(BackboneInvalid, match=r"openvino cannot load .*model\.onnx"):
        runtime.open_session(tmp_path / "model.onnx", "fp32", OPENVINO)


def test_openvino_reports_to_nobody(dense: Path, tmp_path: Path) -> None:
    code = f"""
import sys
events = []
sys.addaudithook(lambda event, _: events.append(event) if event.startswith("socket.") else None)
from extractor import Extractor
Extractor.load({str(dense)!r}, runtime="openvino").close()
print("openvino" in sys.modules, "openvino_telemetry" in sys.modules, events)
"""
    env = {"HOME": str(tmp_path), "HEADWATER_CACHE": "off", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "[]"]
    assert list(tmp_path.iterdir()) == []


def test_onnxruntime_reports_to_nobody(dense: Path, tmp_path: Path) -> None:
    code = f"from extractor import Extractor; Extractor.load({str(dense)!r}, runtime='onnxruntime').close()"
    env = {"HOME": str(tmp_path), "HEADWATER_CACHE": "off", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert list(tmp_path.iterdir()) == []  # its events wait there, and the number that it gives the machine
