"""Files of weights: every form that is read, and every way in which one is refused, with nothing executed."""

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from extractor import zoo
from extractor.errors import ExportError
from extractor.export import export
from extractor.spec import sha256
from extractor.zoo.choice import Choice
from extractor.zoo.weights import load_weights, read_weights


def policy() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_every_form_gives_the_same_tensors(tmp_path: Path) -> None:
    weights = dict(policy().state_dict())
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "plain.pth")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, tmp_path / "wrapped.tar")
    torch.save({"state_dict": {f"module.{name}": one for name, one in weights.items()}}, tmp_path / "parallel.pth")
    with zipfile.ZipFile(tmp_path / "ppo.zip", "w") as archive:  # as Stable-Baselines3 keeps a policy
        archive.writestr("data", b'{"policy_class": {":serialized:": "gAWV"}}')
        archive.write(tmp_path / "plain.pth", "policy.pth")
    for path in tmp_path.iterdir():
        assert same(read_weights(path), weights), path.name


@pytest.mark.parametrize("form", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, form: str, kept: float) -> None:
    weights = dict(policy().state_dict())
    path = tmp_path / form
    if form.endswith(".pth"):
        torch.save(weights, path)
    else:
        save_file(weights, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ExportError, match="cut short"):
        read_weights(path)


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1), "extra": Trap(tmp_path / "made")}, tmp_path / "zip.pth")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "made")))
    with zipfile.ZipFile(tmp_path / "sb3.zip", "w") as archive:
        archive.write(tmp_path / "zip.pth", "policy.pth")
    torch.save(policy(), tmp_path / "module.pth")
    for name in ("zip.pth", "bare.pkl", "sb3.zip", "module.pth"):
        with pytest.raises(ExportError, match="nothing of it was executed"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "made").exists()


def test_a_file_of_another_hash_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(dict(policy().state_dict()), path)
    digest = sha256(path)
    assert read_weights(path, digest)
    assert read_weights(path, digest[:12].upper())
    with pytest.raises(ExportError, match=rf"SHA-256 {digest}, not 0123abcd: .*nothing of it was read"):
        read_weights(path, "0123abcd")
    named = path.rename(tmp_path / f"net-{digest[:8]}.safetensors")
    assert read_weights(named)
    with pytest.raises(ExportError, match="not 89abcdef"):
        read_weights(named.rename(tmp_path / "net-89abcdef.safetensors"))
    with pytest.raises(ExportError, match="there is no file of weights"):
        read_weights(named)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds a dict, not a state dict"),
        ({"a": torch.ones(1), "step": 3}, "holds 'step', which is no tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ExportError, match=said):
        read_weights(tmp_path / "x.pth")


def test_a_state_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    loop: dict = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    with pytest.raises(ExportError, match="holds 'model', which is no tensor"):
        read_weights(tmp_path / "loop.pth")


@pytest.mark.parametrize("name", ["policy.pth", "archive/data.pkl"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(10_000_000))
    tracemalloc.start()
    with pytest.raises(ExportError, match=r"would unpack to 10,000,000 bytes, the limit is [\d,]+, 10 times its size"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_weights_of_another_network_are_refused() -> None:
    weights = dict(policy().state_dict())
    with pytest.raises(
        ExportError, match=r"f is of another network: it lacks 1 \(2\.bias\); it has besides 1 \(more\)"
    ):
        load_weights(
            policy(),
            {name: one for name, one in weights.items() if name != "2.bias"} | {"more": weights["0.bias"]},
            "f",
        )
    with pytest.raises(ExportError, match=r"other shapes than the network's: size mismatch for 2\.weight"):
        load_weights(policy(), weights | {"2.weight": torch.ones(3, 8)}, "f")


def test_a_refused_file_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 2))\n"
    )
    torch.save({"weight": Trap(tmp_path / "made")}, tmp_path / "bad.pth")
    target = tmp_path / "backbone"
    target.mkdir()
    (target / "spec.json").write_text("of an older export")
    choice = Choice(weights=str(tmp_path / "bad.pth"), preprocess={"shape": [4]})
    with pytest.raises(ExportError, match="nothing of it was executed"):
        export(f"torch:{tmp_path / 'own.py'}:make", target, choice=choice)
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"own.py", "bad.pth", "backbone"}
    assert (target / "spec.json").read_text() == "of an older export"
    with pytest.raises(ExportError, match="needs --weights FILE"):
        zoo.build(f"torch:{tmp_path / 'own.py'}:make", Choice(preprocess={"shape": [4]}))
