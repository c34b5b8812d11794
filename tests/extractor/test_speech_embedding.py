"""Real weights of an audio backbone: the fused graph against the two files of openwakeword, on real sounds."""

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import soxr
from sklearn.linear_model import LogisticRegression

from extractor import Extractor, zoo
from extractor.errors import RuntimeMissing
from extractor.export import export
from extractor.golden import differences, read_golden
from extractor.prepare import load_prepare
from extractor.spec import read_spec, sha256, verify_files
from extractor.zoo.golden.sounds import sounds
from tests.runtimes import needs_openvino
from tests.tiny import wav

NAME = "speech-embedding"
RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "fsdd" / "recordings"
needs_weights = pytest.mark.skipif(
    find_spec("openwakeword") is None,
    reason="its weights are not installed: pip install --no-deps openwakeword==0.5.1, as `make setup` does",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(NAME, tmp_path_factory.mktemp("audio") / NAME)


@pytest.fixture(scope="module")
def items() -> list[bytes]:
    """Recorded digits of six speakers where they are, and sounds that are made up."""
    recorded = [path.read_bytes() for path in sorted(RECORDINGS.glob("*_0.wav"))[::10]]
    return [*recorded, *sounds(11)[7:]]


def by_the_two_files(waveform: np.ndarray) -> np.ndarray:
    """What openWakeWord's own code computes: its spectrogram, / 10 + 2, windows of 76 frames moved by 8."""
    models = Path(find_spec("openwakeword").submodule_search_locations[0]) / "resources" / "models"
    spectrogram, embedder = (
        onnxruntime.InferenceSession(models / name, providers=["CPUExecutionProvider"])
        for name in ("melspectrogram.onnx", "embedding_model.onnx")
    )
    padded = np.pad(waveform * 32_768, 6_256).astype(np.float32)[None]
    frames = spectrogram.run(None, {"input": padded})[0].squeeze() / 10 + 2
    windows = np.stack([frames[i : i + 76] for i in range(0, len(frames) - 75, 8)])[..., None]
    return embedder.run(None, {"input_1": windows})[0].reshape(-1, 96).mean(axis=0)


def waveform_of(item: bytes, tmp_path: Path) -> np.ndarray:
    (tmp_path / "item.wav").write_bytes(item)
    samples, rate = soundfile.read(tmp_path / "item.wav", dtype="float32")
    return samples if rate == 16_000 else soxr.resample(samples, rate, 16_000, quality="HQ")


@needs_weights
def test_the_fused_graph_is_the_two_files(folder: Path, items: list[bytes], tmp_path: Path) -> None:
    expected = np.stack([by_the_two_files(waveform_of(item, tmp_path)) for item in items])
    with Extractor.load(folder) as extractor:
        cosine, difference = differences(extractor.extract(items), expected)
    assert cosine >= 0.99999
    assert difference <= 1e-4


@needs_weights
def test_batch_mates_change_nothing_however_loud(folder: Path, items: list[bytes]) -> None:
    quiet = [wav(np.random.default_rng(i).normal(size=3000 + 500 * i) / 2000, 16_000) for i in range(6)]
    mixed = [*items, *quiet]
    order = np.random.default_rng(0).permutation(len(mixed))
    prepare = load_prepare(read_spec(folder), folder)
    with Extractor.load(folder, max_padding=0.95, workers=1, max_batch_size=16) as extractor:
        alone = np.concatenate([extractor.extract([item]) for item in mixed])
        together = extractor.extract([mixed[i] for i in order])
        one_batch = extractor.backbone.forward([prepare(mixed[i]).array for i in order])
    for found in (together, one_batch):
        cosine, difference = differences(found, alone[order])
        assert cosine >= 0.9999999
        assert difference <= 1e-5


@needs_weights
@pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the recorded digits are not here; benchmarks/bench_audio.py has all"
)
def test_eight_recordings_of_each_digit_teach_the_others(folder: Path) -> None:
    taught = [path for path in sorted(RECORDINGS.glob("*.wav")) if path.stem.endswith(("_5", "_6"))]
    taught = [path for place, path in enumerate(taught) if place % 12 < 8]  # of four speakers out of six
    asked = sorted(RECORDINGS.glob("*_0.wav"))
    with Extractor.load(folder) as extractor:
        X, X_asked = extractor.extract(taught), extractor.extract(asked)
    y, y_asked = ([path.name[0] for path in paths] for paths in (taught, asked))
    assert set(Counter(y).values()) == {8}
    head = LogisticRegression(random_state=42, max_iter=1000).fit(X, y)
    assert head.score(X_asked, y_asked) >= 0.80


@needs_weights
@needs_openvino
def test_another_runtime_gives_the_same(folder: Path, items: list[bytes]) -> None:
    with Extractor.load(folder) as one, Extractor.load(folder, runtime="openvino") as other:
        cosine, difference = differences(other.extract(items), one.extract(items))
    assert cosine >= 0.99999
    assert difference <= 1e-4


@needs_weights
def test_the_folder_says_what_it_is_and_its_graph_is_the_same_at_every_export(folder: Path, tmp_path: Path) -> None:
    spec = read_spec(folder)
    verify_files(folder, spec)
    assert (spec.modality, spec.dim, spec.varies, spec.pads) == ("audio", 96, True, True)
    assert spec.licence == "CC BY-NC-SA 4.0"
    zoo.build(NAME).write_onnx(tmp_path / "model.onnx")
    assert sha256(tmp_path / "model.onnx") == spec.files["model.onnx"]
    golden = read_golden(folder / "golden.npz")
    assert len({len(item) for item in golden.items}) == len(golden.items) == 7


@needs_weights
def test_a_sound_that_is_longer_is_cut_and_it_is_said(folder: Path) -> None:
    prepare = load_prepare(read_spec(folder), folder)
    hum = 0.1 * np.sin(np.arange(31 * 16_000) / 20)
    whole, longer = prepare(wav(hum[: 30 * 16_000], 16_000)), prepare(wav(hum, 16_000))
    assert (whole.truncated, longer.truncated) == (False, True)
    np.testing.assert_array_equal(longer.array, whole.array)


def test_weights_that_are_not_there_are_asked_for_by_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "find_spec", lambda name: None if name == "openwakeword" else find_spec(name))
    with pytest.raises(RuntimeMissing, match=r"needs openwakeword: pip install --no-deps openwakeword==0\.5\.1, whose"):
        zoo.build(NAME)
