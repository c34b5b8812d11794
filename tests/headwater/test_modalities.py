"""Arrays and sounds through the service: both clients, the command line, and an ONNX file that somebody brings."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from extractor.errors import ItemTooLarge, UndecodableItem
from extractor.outcome import Outcome
from headwater import AsyncClient, Client
from headwater.process import ServerProcess, serving
from tests.tiny import RATE, noise, npy, sound_embedding, wav

ARRAYS = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
SOUNDS = [noise(n, seed=n) for n in (1000, 2000, 2500, 8000)]


@pytest.fixture(scope="module")
def server(
    tiny_array: Path, tiny_series: Path, tiny_audio: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folders = (str(one) for one in (tiny_array, tiny_series, tiny_audio))
    with serving(*folders, "--cache", str(tmp_path_factory.mktemp("cache")), "--max-item-mib", "1") as one:
        yield one


async def of_async(target: str, backbone: str, items: list) -> tuple[np.ndarray, list[Outcome]]:
    async with AsyncClient(target, backbone=backbone) as client:
        return await client.extract(items), await client.extract_each(items)


@pytest.mark.parametrize(
    ("backbone", "items", "expected"),
    [
        ("tiny-array", list(ARRAYS), ARRAYS.mean(axis=1)),
        ("tiny-array", [npy(one.astype(">f8")) for one in ARRAYS], ARRAYS.mean(axis=1)),
        ("tiny-series", [one[:, :2] for one in ARRAYS], [[*one[:, :2].max(axis=0), 2, 2] for one in ARRAYS]),
        ("tiny-audio", [wav(one) for one in SOUNDS], [sound_embedding(one) for one in SOUNDS]),
    ],
)
def test_both_clients_send_what_a_person_has(
    server: ServerProcess, backbone: str, items: list, expected: np.ndarray
) -> None:
    with Client(server.target, backbone=backbone) as client:
        np.testing.assert_allclose(client.extract(items), expected, atol=1e-6)
        again = client.extract_each(items)
    assert all(one.cached for one in again)
    X, outcomes = asyncio.run(of_async(server.target, backbone, items))
    np.testing.assert_array_equal(X, [one.embedding for one in again])
    assert all(one.cached for one in outcomes)


def test_the_service_tells_the_modality_and_the_errors(server: ServerProcess) -> None:
    with Client(server.target) as client:
        assert {one.name: one.modality for one in client.backbones()} == {
            "tiny-array": "array",
            "tiny-series": "array",
            "tiny-audio": "audio",
        }
        outcomes = client.extract_each([ARRAYS[0], ARRAYS[0, :1], np.full((2, 3), np.nan)], backbone="tiny-array")
        assert [type(one.error) for one in outcomes] == [type(None), UndecodableItem, UndecodableItem]
        assert "the backbone takes (2, 3)" in str(outcomes[1].error)
        cut, lying, large = client.extract_each(
            [wav(noise(2 * RATE)), wav(SOUNDS[0])[:-2], np.zeros(1 << 20)], backbone="tiny-audio"
        )
        assert cut.truncated
        assert "2,000 bytes, and 1,998 are there: it was cut short" in str(lying.error)
        assert isinstance(large.error, ItemTooLarge)


def test_an_audio_backbone_does_not_guess_the_rate_of_an_array(server: ServerProcess) -> None:
    with Client(server.target, backbone="tiny-audio") as client:
        (outcome,) = client.extract_each([SOUNDS[0]])
    assert "send it as a WAV or FLAC file" in str(outcome.error)


def headwater(*arguments: object, home: Path) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "200", "HEADWATER_HOME": str(home), "HEADWATER_CACHE": "off"}
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def write_network(path: Path) -> Path:
    """A network on observations (batch, 4) with a hidden layer of three."""
    weights = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["hidden"], name="first"),
            helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
            helper.make_node("ReduceSum", ["active"], ["value"], name="value"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_file_that_is_brought_becomes_a_backbone_and_rows(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    listed = headwater("layers", f"onnx:{path}", "--match", "relu", home=tmp_path)
    assert "active" in listed.stdout, listed.stderr
    assert "n × 3" in listed.stdout
    assert "hidden" not in listed.stdout
    (tmp_path / "real").mkdir()
    for i in range(9):
        np.save(tmp_path / "real" / f"{i}.npy", np.random.default_rng(i).normal(size=4))
    done = headwater(
        *("export", f"onnx:{path}", "--output", "first", "--layer", "relu", "--name", "cart", "--licence", "MIT"),
        *("--items", tmp_path / "real"),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "backbones" / "cart" / "spec.json").read_text())
    assert (facts["dim"], facts["licence"], facts["preprocess"]["shape"]) == (6, "MIT", [4])
    files = sorted((tmp_path / "real").iterdir())
    done = headwater("extract", *files, "--out", tmp_path / "X.npy", home=tmp_path)
    assert done.returncode == 0, done.stderr
    hidden = np.stack([np.load(file) for file in files]) @ (np.arange(12).reshape(4, 3) / 12)
    np.testing.assert_allclose(np.load(tmp_path / "X.npy"), np.hstack([hidden, hidden.clip(0)]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "relo"], "has no node or value 'relo'; near it are 'relu'"),
        (["--preprocess", "{"], "is not JSON"),
        (["--preprocess", "gone.json"], "No such file or directory; give JSON, or a file of it"),
        (["--preprocess", "[1]"], "No such file"),
        (["--items", "gone"], "is no folder"),
    ],
)
def test_what_was_said_wrong_is_told_in_a_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    path = write_network(tmp_path / "net.onnx")
    done = headwater("export", f"onnx:{path}", *arguments, home=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "backbones").exists()


def test_a_built_in_network_has_no_layers_to_choose(tmp_path: Path) -> None:
    assert "has no layers to choose from" in headwater("layers", "minilm-l6", home=tmp_path).stderr
    done = headwater("export", "minilm-l6", "--layer", "x", home=tmp_path)
    assert "'minilm-l6' is taken as it was published" in done.stderr


def write_labelled(folder: Path, kind: str) -> None:
    """Twelve items of each of two labels, and one that is none."""
    for label, level in (("high", 0.4), ("low", -0.4)):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            item = wav(noise(1000 + 50 * i, seed=i) + level) if kind == "wav" else npy(ARRAYS[i] + 10 * level)
            (folder / label / f"{i}.{kind}").write_bytes(item)
    (folder / "low" / f"bad.{kind}").write_bytes(item[:-3])


@pytest.mark.parametrize("kind", ["wav", "npy"])
def test_sounds_and_arrays_teach_a_head(tiny_array: Path, tiny_audio: Path, tmp_path: Path, kind: str) -> None:
    backbone = {"wav": tiny_audio, "npy": tiny_array}[kind]
    data = tmp_path / "data"
    write_labelled(data, kind)
    trained = headwater("train", data, "--name", "levels", "--backbone", backbone, "--no-report", home=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "2 classes, 24 examples" in trained.stdout + trained.stderr
    assert f"low/bad.{kind}: " in trained.stdout + trained.stderr
    files = [data / "high" / f"0.{kind}", data / "low" / f"0.{kind}", data / "low" / f"bad.{kind}"]
    done = headwater("predict", "levels", *files, "--backbone", backbone, "--json", home=tmp_path)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["ranking"][0]["label"] for one in told if "ranking" in one] == ["high", "low"], done.stdout
    assert "send the whole file" in told[2]["error"]
