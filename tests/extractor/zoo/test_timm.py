"""`timm:NAME`: what timm gives without a classifier, and layers inside."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from extractor.zoo.torchvision_import import mend_torchvision  # noqa: E402  # where torch is there

mend_torchvision()
timm = pytest.importorskip("timm")

from safetensors.torch import save_file  # noqa: E402  # where they are there

from extractor import Extractor, zoo  # noqa: E402
from extractor.errors import BackboneNotFound, ExportError  # noqa: E402
from extractor.export import export  # noqa: E402
from extractor.prepare import load_prepare  # noqa: E402
from extractor.spec import read_spec  # noqa: E402
from extractor.zoo.choice import Choice  # noqa: E402
from extractor.zoo.golden import photos  # noqa: E402

NAME = "test_vit"  # timm's own, for tests: 0.4 million weights


def overlaid(preprocess: dict | None = None, **config: object) -> Choice:
    """What is chosen of a network whose own facts say something else."""
    return Choice(weights="random", preprocess=preprocess, arguments={"pretrained_cfg_overlay": config})


def test_the_embedding_is_timms(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = timm.create_model(NAME).eval()
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    choice = Choice(weights=str(tmp_path / "vit.safetensors"), layers=["blocks.1", "penultimate"], pooling="cls")
    folder = export(f"timm:{NAME}", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.name, spec.modality, spec.dim) == (NAME, "image", 2 * network.num_features)
    assert spec.licence == "not stated"  # the weights are whoever's they are, not timm's
    prepare = load_prepare(spec, folder)
    images = torch.stack([torch.tensor(prepare(item).array) for item in photos()]).permute(0, 3, 1, 2) / 255
    config = network.pretrained_cfg
    normal = (images - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
    with torch.inference_mode():
        whole = network.forward_head(network.forward_features(normal), pre_logits=True)
        (inside,) = network.forward_intermediates(
            normal, indices=[1], intermediates_only=True, output_fmt="NLC", return_prefix_tokens=True
        )
    expected = torch.cat([inside[1][:, 0], whole], dim=1).numpy()
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract(photos()), expected, atol=1e-4)


def test_tokens_are_pooled_over_their_places() -> None:
    for pooling in (None, "mean", "max"):
        built = zoo.build(f"timm:{NAME}", Choice(weights="random", layers=["blocks.1"], pooling=pooling))
        assert (built.dim, built.pooling) == (64, pooling or "mean")
    mixed = Choice(weights="random", layers=["penultimate", "blocks.1"])
    assert zoo.build(f"timm:{NAME}", mixed).pooling == "mean"
    assert zoo.build(f"timm:{NAME}", Choice(weights="random")).pooling == "none"
    with pytest.raises(ExportError, match="gap takes maps of features"):
        zoo.build(f"timm:{NAME}", Choice(weights="random", layers=["blocks.1"], pooling="gap"))


def test_layers_are_listed() -> None:
    small = Choice(weights="random", preprocess={"size": 64})
    heads = {one.name: one for one in zoo.layers("timm:test_resnet", small)}
    assert (heads["fc"].operator, heads["fc"].shape) == ("Identity", ("batch", heads["global_pool"].shape[1]))
    found = {one.name: one.shape for one in zoo.layers(f"timm:{NAME}")}
    assert found["blocks.1"][0] == "batch"
    assert len(found["blocks.1"]) == 3


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneNotFound, match=r"no network 'test_vitt'; near it are .*test_vit"):
        zoo.build("timm:test_vitt")
    for choice, said in (
        (Choice(weights="random", layers=["block.1"]), r"no layer 'block\.1'; near it are 'blocks\.1'"),
        (Choice(weights="random", modality="text"), "the network takes images"),
        (Choice(weights="random", arguments={"n_classes": 3}), "cannot load test_vit"),
        (Choice(weights=str(tmp_path / "absent.pth")), "there is no file of weights"),
        (overlaid(crop_mode="border"), "crop mode 'border', and a backbone's center or squash: say --preprocess"),
        (overlaid(input_size=[3, 160, 128]), "takes images of 160 x 128, and a backbone's are square: say"),
    ):
        with pytest.raises(ExportError, match=said):
            zoo.build(f"timm:{NAME}", choice)
    said = overlaid(preprocess={"recipe": "squash/1"}, crop_mode="border")
    assert zoo.build(f"timm:{NAME}", said).preprocess.recipe == "squash/1"
