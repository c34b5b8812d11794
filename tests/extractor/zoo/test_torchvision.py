"""`torchvision:NAME`: layers by module and by traced node, against torchvision; and weights that are not right."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extractor import Extractor, zoo
from extractor.errors import BackboneNotFound, ExportError
from extractor.export import export
from extractor.prepare import load_prepare
from extractor.spec import read_spec, sha256
from extractor.zoo.choice import Choice
from extractor.zoo.golden import photos
from extractor.zoo.torchvision_import import mend_torchvision

mend_torchvision()

from torchvision import models  # noqa: E402  # only after the mending does it import everywhere

NAME, SMALL = "squeezenet1_1", {"size": 64}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return models.squeezenet1_1(weights=None).eval()


@pytest.fixture(scope="module")
def weights(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(network.state_dict(), path)
    return path


def pixels(folder: Path, items: list[bytes]) -> torch.Tensor:
    """The images as torchvision's own transforms normalise them."""
    prepare = load_prepare(read_spec(folder), folder)
    images = torch.stack([torch.tensor(prepare(item).array) for item in items]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images - mean) / std


def test_layers_are_torchvisions(network: torch.nn.Module, weights: Path, tmp_path: Path) -> None:
    layers = ["features.5", "features.12.cat"]  # a module, and a node that is none
    choice = Choice(weights=str(weights), sha256=sha256(weights), layers=layers, preprocess=SMALL)
    folder = export(f"torchvision:{NAME}", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.name, spec.modality, spec.dim, spec.pooling) == (NAME, "image", 128 + 512, "gap")
    assert (spec.licence, spec.preprocess.crop_fraction) == ("not stated", 224 / 256)
    assert sha256(weights) in spec.source
    with torch.inference_mode():
        fifth = network.features[:6](pixels(folder, photos()))
        last = network.features[6:](fifth)
    expected = torch.cat([fifth.mean(dim=(2, 3)), last.mean(dim=(2, 3))], dim=1).numpy()
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract(photos()), expected, atol=1e-4, rtol=1e-4)


def test_the_penultimate_is_what_the_classifier_takes(network: torch.nn.Module, weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    built = {
        pooling: zoo.build(f"torchvision:{NAME}", Choice(weights=str(weights), pooling=pooling, preprocess=SMALL))
        for pooling in (None, "max", "flatten")
    }
    normal = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / (
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    )
    with torch.inference_mode():
        maps = network.features(normal)
    for pooling, expected in ((None, maps.mean((2, 3))), ("max", maps.amax((2, 3))), ("flatten", maps.flatten(1))):
        assert built[pooling].dim == expected.shape[1]
        np.testing.assert_allclose(built[pooling].reference({"image": image}), expected, atol=1e-4)


@pytest.mark.parametrize("layers", [["bn1", "layer1.0.bn2"], ["bn1", "layer1.0.bn2", "layer1.0.add"]])
def test_what_a_later_step_writes_in_place_does_not_show(layers: list[str]) -> None:
    network = zoo.build("torchvision:resnet18", Choice(weights="random", layers=layers, preprocess=SMALL)).module
    torch.manual_seed(0)
    resnet = models.resnet18(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found = network.network(image)
        first = resnet.bn1(resnet.conv1(image))
        block, into = resnet.layer1[0], resnet.maxpool(first.relu())
        second = block.bn2(block.conv2(block.bn1(block.conv1(into)).relu()))
    for one, expected in zip(found, (first, second, second + into), strict=False):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)
        assert one.min() < 0


def test_maps_of_swin_are_pooled_over_places() -> None:
    built = zoo.build("torchvision:swin_t", Choice(weights="random", layers=["features.5"], preprocess=SMALL))
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with torch.inference_mode():
        (maps,) = built.module.network(-(built.module.mean / built.module.std).expand(1, 3, 64, 64))
        row = built.module(image)
    assert maps.shape == (1, 4, 4, 384)
    torch.testing.assert_close(row, maps.mean((1, 2)))


def test_layers_are_listed_with_nodes() -> None:
    found = {one.name: one for one in zoo.layers(f"torchvision:{NAME}", Choice(preprocess=SMALL))}
    assert found["features.0"].operator == "Conv2d"
    assert found["features.12.cat"].shape == ("batch", 512, 3, 3)


def test_a_module_that_runs_several_times_is_its_first_run_as_listed() -> None:
    (listed,) = [one for one in zoo.layers("torchvision:resnet50", Choice()) if one.name == "layer1.0.relu"]
    assert listed.shape == ("batch", 64, 56, 56)
    choice = Choice(weights="random", layers=("layer1.0.relu",))
    assert zoo.build("torchvision:resnet50", choice).dim == 64
    with pytest.raises(ExportError, match=r"'layer1.0.relu' cannot be combined with layer1.0.relu, penultimate"):
        zoo.build("torchvision:resnet50", replace(choice, layers=("layer1.0.relu", "penultimate")))


def test_a_detector_gives_its_pyramid() -> None:
    small = {"size": 64}
    network = zoo.build("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", Choice(weights="random", preprocess=small))
    assert network.dim == 2 * 256
    assert "random weights" in network.source


def test_weights_that_are_published_have_to_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    with pytest.raises(ExportError, match=r"cannot be fetched .*put the file into .*hub/checkpoints"):
        zoo.build(f"torchvision:{NAME}")
    cached = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), cached)
    with pytest.raises(ExportError, match=r"not b8a52dc0: it was changed or cut short; nothing of it was read"):
        export(f"torchvision:{NAME}@IMAGENET1K_V1", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a_file"))
    with pytest.raises(ExportError, match=r"cannot be fetched .*name it: --weights FILE"):
        zoo.build(f"torchvision:{NAME}")


def test_what_is_not_there_is_named_with_what_is(weights: Path) -> None:
    with pytest.raises(BackboneNotFound, match=r"no network 'resnet7'; near it are .*resnet50"):
        zoo.build("torchvision:resnet7")
    with pytest.raises(BackboneNotFound, match=r"no weights 'V9' for resnet18; there are: IMAGENET1K_V1"):
        zoo.build("torchvision:resnet18@V9")
    for choice, said in (
        (Choice(weights="random", layers=["featuers.5"], preprocess=SMALL), r"near it are .*'features\.5'"),
        (Choice(weights="random", modality="audio"), "the network takes images"),
        (Choice(weights="random", pooling="cls", preprocess=SMALL), "take gap or max"),
        (Choice(weights="random", arguments={"n_classes": 3}), "cannot be made with --arguments"),
        (Choice(weights="random", arguments={"num_classes": -1}), "cannot be made with --arguments .*: RuntimeError: "),
        (Choice(weights="random", sha256="0" * 64), "--sha256 is of a file of weights; name that with --weights"),
        (Choice(weights=str(weights), arguments={"num_classes": 3}), "other shapes than the network's"),
    ):
        with pytest.raises(ExportError, match=said):
            zoo.build(f"torchvision:{NAME}", choice)
    odd = Choice(weights="random", arguments={"image_size": 100})
    with pytest.raises(ExportError, match=r"vit_b_16 cannot be made with --arguments .*: AssertionError: "):
        zoo.build("torchvision:vit_b_16", odd)
    with pytest.raises(ExportError, match="is of another network: it lacks"):
        zoo.build("torchvision:resnet18", Choice(weights=str(weights)))


@pytest.mark.stress
def test_the_table_of_torchvision_needs_no_other_import() -> None:
    code = "from extractor import zoo; print(len(zoo.layers('torchvision:resnet18')))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
