"""`hf:FOLDER` of images: made as transformers' own classes make them, and pooled by what the network has."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from extractor import zoo
from extractor.errors import ExportError
from extractor.preprocess.image import fit_image
from extractor.zoo.choice import Choice
from extractor.zoo.hub_image import image_part
from tests.hub_folders import FAMILIES, hub


def write_seer(folder: Path, config: object) -> torch.nn.Module:
    """Write a network of images, with the front end of the families, and return it."""
    torch.manual_seed(7)
    network = hub.AutoModel.from_config(config).eval()
    network.save_pretrained(folder)
    facts = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return network


SIXTEENS = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64}


SEEN = {
    "swin": (
        hub.SwinConfig(image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4),
        ("mean", lambda found: found.last_hidden_state.mean(dim=1)),
    ),
    "convnext": (
        hub.ConvNextConfig(**SIXTEENS, image_size=64),
        ("gap", lambda found: found.last_hidden_state.mean(dim=(2, 3))),
    ),
    "dinov3-convnext": (hub.DINOv3ConvNextConfig(**SIXTEENS), ("cls", lambda found: found.pooler_output)),
    "dinov2": (hub.Dinov2Config(**VIT, patch_size=16), ("cls", lambda found: found.last_hidden_state[:, 0])),
    "vit": (hub.ViTConfig(**VIT, patch_size=16), ("cls", lambda found: found.last_hidden_state[:, 0])),
}


@pytest.mark.parametrize("family", SEEN)
def test_an_image_is_its_class_token_where_the_network_has_one(tmp_path: Path, family: str) -> None:
    config, (pooling, expected) = SEEN[family]
    published = write_seer(tmp_path, config)
    network = zoo.build(f"hf:{tmp_path}")
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    pixels = (torch.tensor(image).permute(0, 3, 1, 2) - 127.5) / 127.5
    with torch.inference_mode():
        found = published(pixels)
    assert network.pooling == pooling
    np.testing.assert_allclose(network.reference({"image": image}), expected(found), atol=1e-5)
    if family in ("swin", "vit"):
        pooled = zoo.build(f"hf:{tmp_path}", Choice(pooling="pooler")).reference({"image": image})
        np.testing.assert_allclose(pooled, found.pooler_output, atol=1e-5)


def test_layers_of_images_are_pooled_by_what_they_are(tmp_path: Path) -> None:
    write_seer(tmp_path, SEEN["vit"][0])
    for layers, pooling in [
        (("embeddings.patch_embeddings.projection",), "gap"),
        (("layers.0", "penultimate"), "cls"),
        (("pooler.dense",), "none"),
    ]:
        network = zoo.build(f"hf:{tmp_path}", Choice(layers=layers))
        assert (network.pooling, network.dim) == (pooling, 32 * len(layers))


def test_images_of_another_size_than_the_networks_are_refused(tmp_path: Path) -> None:
    write_seer(tmp_path, SEEN["vit"][0])
    with pytest.raises(ExportError, match=r"cannot run an image: .*say with --preprocess the size"):
        zoo.build(f"hf:{tmp_path}", Choice(preprocess={"size": 96}))


def test_a_network_whose_configuration_tells_no_modality_is_told_by_its_front_end(tmp_path: Path) -> None:
    config = hub.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    published = write_seer(tmp_path, config)
    network = zoo.build(f"hf:{tmp_path}")
    image = np.full((1, 64, 64, 3), 255, np.uint8)
    with torch.inference_mode():
        expected = published(torch.ones(1, 3, 64, 64)).pooler_output[:, :, 0, 0]
    assert (network.modality, network.pooling) == ("image", "gap")
    np.testing.assert_allclose(network.reference({"image": image}), expected, atol=1e-5)


SQUARE = {"size": {"height": 24, "width": 24}}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", SQUARE),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "do_normalize": False, "resample": 0}),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "rescale_factor": 1 / 127.5, "resample": 1}),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "do_rescale": False}),
        (
            "clip.image_processing_pil_clip:CLIPImageProcessorPil",
            {"size": {"shortest_edge": 37}, "crop_size": {"height": 24, "width": 24}},
        ),
        ("convnext.image_processing_pil_convnext:ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}}),
        ("convnext.image_processing_pil_convnext:ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
        ("clip.image_processing_pil_clip:CLIPImageProcessorPil", {"size": 37, "crop_size": 24}),
        ("deit.image_processing_pil_deit:DeiTImageProcessorPil", {"size": 32, "crop_size": 24}),
        ("levit.image_processing_pil_levit:LevitImageProcessorPil", {}),
        ("efficientnet.image_processing_pil_efficientnet:EfficientNetImageProcessorPil", SQUARE),
        (
            "efficientnet.image_processing_pil_efficientnet:EfficientNetImageProcessorPil",
            {**SQUARE, "include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5},
        ),
    ],
)
def test_images_are_made_as_transformers_makes_them(tmp_path: Path, kind: str, facts: dict) -> None:
    module, _, name = kind.partition(":")
    processor = getattr(import_module(f"transformers.models.{module}"), name)(**facts)
    processor.save_pretrained(tmp_path)
    hub.ViTConfig(image_size=24).save_pretrained(tmp_path)
    part = image_part(str(tmp_path), hub.AutoConfig.from_pretrained(tmp_path), Choice())
    image = Image.fromarray(np.random.default_rng(0).integers(64, 192, (450, 800, 3), np.uint8))
    expected = np.asarray(processor(image)["pixel_values"][0]).transpose(1, 2, 0)
    made = (fit_image(image, part.preprocess) - np.array(part.preprocess.mean)) / np.array(part.preprocess.std)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() * part.preprocess.std[0] < 2.01  # of 255


NO_RECIPE = r"prepares images by {}ImageProcessor in a way that no recipe has; say .*--preprocess"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"size": {"height": 24, "width": 48}}, "takes images of .*a backbone's are square"),
        ({"size": 24, "resample": 5}, "Pillow's filter 5"),
        ({"image_processor_type": "MobileViTImageProcessor"}, NO_RECIPE.format("MobileViT")),  # BGR
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, NO_RECIPE.format("CLIP")),
        ({"image_processor_type": "CLIPImageProcessor", "size": 20, "crop_size": 24}, NO_RECIPE.format("CLIP")),
        ({"image_processor_type": "OwnImageProcessor"}, "transformers cannot make the images of .*--preprocess"),
    ],
)
def test_images_that_no_recipe_makes_are_refused_until_the_user_says_all(
    tmp_path: Path, facts: dict, said: str
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"model_type": "own", **facts}))
    hub.ViTConfig(**FAMILIES["vit"][2]).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match=said):
        zoo.build(f"hf:{tmp_path}", Choice(weights="random"))
    with pytest.raises(ExportError, match=said):
        zoo.build(f"hf:{tmp_path}", Choice(weights="random", preprocess={"size": 32}))
    chosen = {"size": 32, "mean": [127.5] * 3, "std": [127.5] * 3}
    assert zoo.build(f"hf:{tmp_path}", Choice(weights="random", preprocess=chosen)).preprocess.size == 32
