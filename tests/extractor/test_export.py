"""Real weights: the exported graphs against the untouched torch modules, on real inputs."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from extractor import Extractor, zoo
from extractor.backbone import collate
from extractor.errors import BackboneNotFound, ExportError, RuntimeMissing
from extractor.export import export, export_network
from extractor.golden import TOLERANCES, differences, read_golden
from extractor.prepare import load_prepare
from extractor.spec import read_spec, verify_files
from extractor.zoo.golden import photos
from extractor.zoo.network import Network
from tests.tiny import png

torch = pytest.importorskip("torch")

NAMES = ("efficientnet-lite0", "minilm-l6")
DAISY, PALACE = 985, 698  # ImageNet's classes of scikit-learn's two sample photos: a flower, and the Summer Palace
SENTENCES = (
    "My card payment was declined, what now?",
    "Is there a fee for a transfer to another country?",
    "ok",
    "The library opens at nine and closes at six, except on Sundays, when it stays closed. " * 5,
)


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, backbones: Path) -> Path:
    return backbones / request.param


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    return {name: zoo.build(name) for name in NAMES}


def real_items(modality: str) -> list[bytes]:
    if modality == "text":
        return [sentence.encode() for sentence in SENTENCES]
    return [png(image) for image in load_sample_images().images]


def reference(network: Network, folder: Path, items: list[bytes]) -> np.ndarray:
    """What the untouched torch module makes of items, one at a time."""
    spec = read_spec(folder)
    prepare = load_prepare(spec, folder)
    rows = []
    with torch.inference_mode():
        for item in items:
            inputs = collate(spec, [prepare(item).array])
            rows.append(network.module(**{name: torch.from_numpy(value.copy()) for name, value in inputs.items()}))
    return torch.cat(rows).numpy()


def test_golden_embeddings_are_the_untouched_modules(folder: Path, networks: dict[str, Network]) -> None:
    golden = read_golden(folder / "golden.npz")
    np.testing.assert_allclose(golden.embeddings, reference(networks[folder.name], folder, golden.items), atol=1e-6)
    assert len(golden.items) >= 6


def test_parity_with_torch_on_golden_and_real_inputs(folder: Path, networks: dict[str, Network]) -> None:
    golden = read_golden(folder / "golden.npz")
    items = real_items(read_spec(folder).modality)
    with Extractor.load(folder) as extractor:
        for found, expected in (
            (extractor.extract(golden.items), golden.embeddings),
            (extractor.extract(items), reference(networks[folder.name], folder, items)),
        ):
            cosine, difference = differences(found, expected)
            assert cosine >= 0.99999
            assert difference <= 1e-4


def test_a_recomputation_agrees_whatever_shares_the_batch(folder: Path) -> None:
    items = read_golden(folder / "golden.npz").items
    shuffled = np.random.default_rng(0).permutation(len(items))
    with Extractor.load(folder) as extractor:
        alone = np.concatenate([extractor.extract([item]) for item in items])
        together = extractor.extract([items[i] for i in shuffled])
    assert np.abs(together - alone[shuffled]).max() <= 1e-6


def test_the_folder_is_whole_and_says_what_it_is(folder: Path) -> None:
    spec = read_spec(folder)
    verify_files(folder, spec)
    assert {path.name for path in folder.iterdir()} == {*spec.files, "spec.json"}
    assert (spec.name, spec.precision, spec.licence, spec.pooling) == (folder.name, "fp32", "Apache-2.0", "mean")
    assert spec.dim == {"image": 1280, "text": 384}[spec.modality]


def test_images_enter_the_graph_as_uint8(backbones: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(backbones / "efficientnet-lite0" / "model.onnx")
    (node,) = session.get_inputs()
    assert (node.type, node.shape[1:]) == ("tensor(uint8)", [224, 224, 3])


def test_lite0_keeps_its_relu6_and_knows_imagenet(networks: dict[str, Network], backbones: Path) -> None:
    module = networks["efficientnet-lite0"].module.network
    kinds = {type(one).__name__ for one in module.modules()}
    assert "ReLU6" in kinds
    assert not {kind for kind in kinds if "Swish" in kind}
    with Extractor.load(backbones / "efficientnet-lite0") as extractor:
        embeddings = extractor.extract([Image.fromarray(image) for image in load_sample_images().images])
    assert embeddings.min() >= 0
    assert embeddings.max() <= 6
    with torch.inference_mode():
        top = module._fc(torch.from_numpy(embeddings)).topk(3).indices.tolist()
    names = load_sample_images().filenames
    expected = {"china.jpg": PALACE, "flower.jpg": DAISY}
    for name, classes in zip(names, top, strict=True):
        assert name.endswith(tuple(expected))
        assert expected[Path(name).name] in classes, (name, classes)


def test_minilm_puts_like_meanings_together(backbones: Path) -> None:
    with Extractor.load(backbones / "minilm-l6") as extractor:
        found = extractor.extract(["A man is eating food.", "Someone has a meal.", "The stock market fell sharply."])
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.5 > 0.2 > unit[0] @ unit[2]


def test_long_texts_are_cut_at_256_tokens_and_it_is_said(backbones: Path) -> None:
    with Extractor.load(backbones / "minilm-l6") as extractor:
        exactly, longer, same = extractor.extract_each(["cat " * 254, "cat " * 255, "cat " * 500])
    assert (exactly.truncated, longer.truncated, same.truncated) == (False, True, True)
    np.testing.assert_allclose(longer.embedding, same.embedding, atol=1e-6)


def test_exporting_again_gives_the_same_bytes_and_tells_no_path(backbones: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    again = export("efficientnet-lite0", tmp_path / "again", progress=steps.append)
    first = backbones / "efficientnet-lite0"
    assert read_spec(again).fingerprint == read_spec(first).fingerprint
    model = (again / "model.onnx").read_bytes()
    assert model == (first / "model.onnx").read_bytes()
    assert b".py" not in model
    assert len(steps) >= 4
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


class Wrong(torch.nn.Module):
    """Gives another value while it is exported: its graph does not equal it."""

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        return image.to(torch.float32).mean(dim=(1, 2)) + int(torch.compiler.is_compiling())


class Unsteady(torch.nn.Module):
    """Gives what it gave before plus how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        self.calls += 1
        return image.to(torch.float32).mean(dim=(1, 2)) + self.calls


def test_a_graph_that_is_not_equal_leaves_what_was_there(networks: dict[str, Network], tmp_path: Path) -> None:
    wrong = dataclasses.replace(networks["efficientnet-lite0"], name="wrong", module=Wrong(), dim=3)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "spec.json").write_text("as it was")
    with pytest.raises(ExportError, match=r"'wrong' differs.*nothing was written"):
        export_network(wrong, tmp_path / "wrong")
    assert [path.name for path in tmp_path.rglob("*")] == ["wrong", "spec.json"]
    unsteady = dataclasses.replace(wrong, module=Unsteady())
    with pytest.raises(ExportError, match=r"'wrong' gives other values when it runs the same item again"):
        export_network(unsteady, tmp_path / "wrong")


def test_a_new_export_replaces_an_old_backbone_whole_and_nothing_else(
    networks: dict[str, Network], tmp_path: Path
) -> None:
    (tmp_path / "lite").mkdir()
    (tmp_path / "lite" / "tokenizer.json").write_text("of an older export")
    export_network(networks["efficientnet-lite0"], tmp_path / "lite")
    assert {path.name for path in (tmp_path / "lite").iterdir()} == {"model.onnx", "golden.npz", "spec.json"}
    (tmp_path / "lite" / "thesis.doc").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds 'thesis\.doc', which is no part of a backbone"):
        export_network(networks["efficientnet-lite0"], tmp_path / "lite")
    assert (tmp_path / "lite" / "thesis.doc").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["lite"]


def test_an_unknown_network_is_named_with_those_that_are_known() -> None:
    with pytest.raises(BackboneNotFound, match=r"'resnet-900'.*efficientnet-lite0, minilm-l6"):
        export("resnet-900")


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.delitem(sys.modules, "extractor.zoo.efficientnet_lite", raising=False)
    with pytest.raises(RuntimeMissing, match=r"pip install 'headwater\[export\]'"):
        zoo.build("efficientnet-lite0")
    monkeypatch.undo()
    importlib.import_module("extractor.zoo.efficientnet_lite")


def test_golden_photos_are_real_and_of_different_sizes() -> None:
    assert len(photos()) == 6
    assert len({len(photo) for photo in photos()}) == 6


def test_torchvision_can_be_imported_beside_any_torch() -> None:
    code = (
        "from extractor.zoo.torchvision_import import mend_torchvision as mend\n"
        "mend(); mend()\n"
        "import torch, torchvision\n"
        "from torchvision.models import resnet18\n"
        "print(tuple(resnet18()(torch.zeros(1, 3, 64, 64)).shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(1, 1000)\n"), done.stderr


def test_the_tolerance_is_the_promised_one() -> None:
    assert (TOLERANCES["fp32"].min_cosine, TOLERANCES["fp32"].max_difference) == (0.99999, 1e-4)
