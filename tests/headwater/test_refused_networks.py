"""Files that are cut, changed, or hold code, given to `headwater export` and to what reads a backbone, as a user does.

Each is told in one line that names the file, the value and the next step; nothing of it is executed, or written.
"""

import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from extractor import Extractor
from extractor.errors import BackboneError
from extractor.export import export
from extractor.shelf import installed
from extractor.spec import sha256
from extractor.zoo.architectures.games import PPO
from extractor.zoo.choice import Choice
from extractor.zoo.onnx_file import OnnxNetwork
from headwater.cli import main
from tests.tiny import flat, npy, png, wav

NETWORK = "torch:extractor.zoo.architectures.games:PPO"
FACTS = ("--preprocess", '{"shape": [4]}')
POLICY = """
    <ir_version: 8, opset_import: ["" : 17]>
    graph (float[n,4] x) => (float[n,2] y) <float[4,2] w = {1,2,3,4,5,6,7,8}> { h = Tanh(x)  y = MatMul(h, w) }
"""
SOUNDS = """
    <ir_version: 8, opset_import: ["" : 17]>
    graph (float[n,t] x) => (float[n,1] y) { y = ReduceMean<axes = [1], keepdims = 1>(x) }
"""


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # noqa: ANN201  # a function
    """Run `headwater` and return what it says when it refuses."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["headwater", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        *_, line = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(PPO().state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_weights_that_are_cut_changed_or_hold_code(told, weights: Path, tmp_path: Path) -> None:  # noqa: ANN001
    out = ("--out", tmp_path / "out")
    assert f"w.safetensors has SHA-256 {sha256(weights)}, not 0123: " in (
        line := told("export", NETWORK, *FACTS, *out, "--weights", weights, "--sha256", "0123")
    )
    assert line.endswith("nothing of it was read; remove it, and fetch or copy it again")
    weights.write_bytes(weights.read_bytes()[:-9])
    line = told("export", NETWORK, *FACTS, *out, "--weights", weights)
    assert "w.safetensors is no file of weights, or was cut short" in line
    assert line.endswith("copy it again")
    torch.save({"log_std": Trap(tmp_path / "made")}, tmp_path / "trap.pth")
    line = told("export", NETWORK, *FACTS, *out, "--weights", tmp_path / "trap.pth")
    assert "trap.pth holds more than weights, such as posix.mkdir, or was cut short; nothing of it was" in line
    assert "weights_only" not in line
    assert line.endswith("save the state dict alone, best as safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trap.pth", "w.safetensors"]


def test_graphs_that_lack_a_node_or_their_end(told, tmp_path: Path) -> None:  # noqa: ANN001
    path = tmp_path / "policy.onnx"
    onnx.save(onnx.parser.parse_model(POLICY), path)
    line = told("export", f"onnx:{path}", "--output", "hh", "--out", tmp_path / "out")
    assert "no node or value 'hh'; near it are 'h'" in line
    assert line.endswith("list all with headwater layers")
    path.write_bytes(path.read_bytes()[:-9])
    line = told("export", f"onnx:{path}", "--out", tmp_path / "out")
    assert "policy.onnx is no ONNX file, or was cut short" in line
    assert line.endswith("copy it again")
    assert [one.name for one in tmp_path.iterdir()] == ["policy.onnx"]


def test_a_sound_that_lies_about_its_length(told, tmp_path: Path) -> None:  # noqa: ANN001
    path, items = tmp_path / "sounds.onnx", tmp_path / "items"
    onnx.save(onnx.parser.parse_model(SOUNDS), path)
    sound = wav(np.random.default_rng(0).normal(size=1000) / 9)
    size_at = sound.index(b"data") + 4
    items.mkdir()
    (items / "lies.wav").write_bytes(sound[:size_at] + struct.pack("<I", 1 << 30) + sound[size_at + 4 :])
    command = (
        "export",
        f"onnx:{path}",
        "--output",
        "y",
        "--modality",
        "audio",
        "--preprocess",
        '{"sample_rate": 8000}',
    )
    line = told(*command, "--items", items, "--out", tmp_path / "out")
    assert "item 1 of 1 for the proof cannot be read: " in line
    assert "its sound has 1,073,741,824 bytes, and 2,000 are there: it was cut short" in line
    assert sorted(one.name for one in tmp_path.iterdir()) == ["items", "sounds.onnx"]


@pytest.mark.parametrize(
    ("name", "kept", "said"),
    [
        ("model.onnx", 99, r"model.onnx has SHA-256"),
        ("model.onnx", None, "model.onnx is missing; export the backbone again"),
        ("golden.npz", 99, "golden.npz has SHA-256"),
        ("spec.json", 99, "spec.json is not JSON"),
        ("spec.json", None, "is no backbone folder: it has no spec.json"),
    ],
)
def test_a_backbone_of_which_a_part_is_there(
    told,  # noqa: ANN001
    tiny_image: Path,
    tmp_path: Path,
    name: str,
    kept: int | None,
    said: str,
) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "half")
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if kept is not None:
        (folder / name).write_bytes(whole[:kept])
    (tmp_path / "one.png").write_bytes(png(flat(1)))
    line = told("extract", tmp_path / "one.png", "--backbone", folder, "--out", tmp_path / "x.npy")
    assert said in line
    assert not (tmp_path / "x.npy").exists()


def test_an_export_that_is_stopped_leaves_the_older_one_or_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    onnx.save(onnx.parser.parse_model(POLICY), tmp_path / "policy.onnx")
    first = export(f"onnx:{tmp_path / 'policy.onnx'}")
    before = sorted((path.name, path.read_bytes()) for path in first.iterdir())

    def stopped(_network: OnnxNetwork, path: Path) -> None:
        path.write_bytes(b"half a graph")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OnnxNetwork, "write_onnx", stopped)
        for name in ("policy", "other"):
            with pytest.raises(KeyboardInterrupt):
                export(f"onnx:{tmp_path / 'policy.onnx'}", choice=Choice(name=name))
    assert [path.name for path in first.parent.iterdir()] == ["policy"]
    assert sorted((path.name, path.read_bytes()) for path in first.iterdir()) == before
    shutil.copytree(first, first.with_name(".other.0123.new"))  # as a kill leaves it
    assert [path.name for path in installed()] == ["policy"]
    with pytest.raises(BackboneError, match="no backbone 'other'"):
        Extractor.load("other")
    with Extractor.load("policy") as extractor:
        assert extractor.extract([npy(np.ones(4, np.float32))]).shape == (1, 4)
