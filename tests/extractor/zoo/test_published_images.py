"""The images of torchvision's and timm's networks: our recipes against their own transforms, pixel by pixel."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from extractor.preprocess.image import fit_image
from extractor.recipes import ImagePreprocess
from extractor.zoo import timm_network, torchvision_network
from extractor.zoo.choice import Choice
from extractor.zoo.front import recipe_of

import timm  # isort: skip  # both import torchvision, which the two modules above have mended
from torchvision import models  # isort: skip

SIZES = [(640, 361), (360, 641), (517, 389)]


def furthest(facts: dict[str, Any], transform: Any, resampled: tuple[int, int]) -> float:
    """The largest difference of a pixel, of 255."""
    image = Image.fromarray(np.random.default_rng(0).integers(64, 192, (*resampled, 3), np.uint8))
    recipe = cast(ImagePreprocess, recipe_of("image", facts))
    theirs = transform(image).permute(1, 2, 0).numpy() * np.array(recipe.std) + np.array(recipe.mean)
    return float(np.abs(fit_image(image, recipe) - theirs).max())


@pytest.mark.parametrize("name", ["ResNet50_Weights", "EfficientNet_B3_Weights", "ViT_B_16_Weights"])
def test_torchvisions(name: str) -> None:
    for published in getattr(models, name):
        facts = torchvision_network._facts(torch.nn.Module(), published)
        assert max(furthest(facts, published.transforms(), size) for size in SIZES) <= 2.01, published


@pytest.mark.parametrize(
    "name", ["resnet50.a1_in1k", "vit_small_patch14_dinov2.lvd142m", "eva02_base_patch14_448.mim_in22k_ft_in22k_in1k"]
)
def test_timms(name: str) -> None:
    network = cast(torch.nn.Module, SimpleNamespace(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()))
    facts = timm_network._facts(network, Choice())
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    assert max(furthest(facts, transform, size) for size in SIZES) <= 2.01
    assert facts["recipe"] == ("squash/1" if name.startswith("eva02") else "resize-crop/1")
