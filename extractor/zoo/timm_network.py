"""`timm:NAME`: images -> any layer of a network of timm (Wightman, "PyTorch Image Models", 2019)."""

from collections.abc import Mapping
from math import floor
from typing import Any

import torch

from extractor.errors import BackboneNotFound, ExportError
from extractor.recipes import ResizeCropPreprocess, SquashPreprocess
from extractor.zoo.choice import PENULTIMATE, RANDOM, Choice
from extractor.zoo.images import image_facts, image_front
from extractor.zoo.layer import Layer
from extractor.zoo.near import near
from extractor.zoo.taps import Tap, Tapped, find_tap, layers_of
from extractor.zoo.torch_network import RANDOM_SOURCE, TorchNetwork, brought, seeded
from extractor.zoo.torchvision_import import mend_torchvision
from extractor.zoo.weights import bring_weights

mend_torchvision()

import timm  # noqa: E402  # it imports torchvision

_CROPS = ("center", "squash")  # of timm's, those that a recipe makes


def build(reference: str, choice: Choice) -> TorchNetwork:
    """Load a network and its weights; `penultimate` is what timm gives without a classifier.

    Parameters
    ----------
    reference : str
        As `timm.create_model` takes it: `xception41`, `resnet50.a1_in1k`, `vit_small_patch14_dinov2.lvd142m`.
    choice : Choice

    Raises
    ------
    BackboneNotFound
        timm has no such network.
    ExportError
        The weights cannot be had or read, or are of another network; or there is no such layer.
    """
    network, source = _load(reference, choice)
    front = image_front(_facts(network, choice), choice)
    layers = tuple(choice.layers or (PENULTIMATE,))
    taps = [Tap("") if name == PENULTIMATE else find_tap(network, name, list) for name in layers]
    return brought(
        reference.rpartition("/")[2],
        front.embedder(Tapped(network, taps), choice.pooling),
        choice,
        **front.facts(),
        source=f"{choice.source or f'timm {reference}'}, {source}; {', '.join(layers)}",
        licence=_config(network).get("license") or "see its page on the Hub",
    )


def layers(reference: str, choice: Choice) -> list[Layer]:
    """Return the layers of a network, which is made without its weights."""
    network = _bare(_made(reference, choice))
    image = image_front(_facts(network, choice), choice).example()
    return layers_of(network, [lambda: network(image)])


def _load(reference: str, choice: Choice) -> tuple[torch.nn.Module, str]:
    if choice.weights == RANDOM:
        return _bare(_made(reference, choice)), RANDOM_SOURCE
    if choice.weights:
        network = _made(reference, choice)
        origin = bring_weights(network, choice)
        return _bare(network), origin
    network = _made(reference, choice, pretrained=True)
    config = _config(network)
    return _bare(network), str(config.get("hf_hub_id") or config.get("url") or config.get("file"))


def _made(reference: str, choice: Choice, **options: Any) -> torch.nn.Module:
    if not (reference.startswith(("hf-hub:", "local-dir:")) or timm.is_model(reference)):
        known = timm.list_models()
        raise BackboneNotFound(f"timm {timm.__version__} has no network {reference!r}; {near(reference, known)}")
    seeded()
    try:
        network: torch.nn.Module = timm.create_model(reference, **options | dict(choice.arguments or {}))
    except Exception as error:  # of timm, of the Hub and of files: they share no root
        raise ExportError(
            f"timm {timm.__version__} cannot load {reference}: {error}; with weights of yours: --weights FILE"
        ) from None
    return network.eval()


def _bare(network: torch.nn.Module) -> torch.nn.Module:
    """Return the network without its classifier."""
    network.reset_classifier(0)  # type: ignore[operator]  # every network of timm has it
    return network.eval()


def _config(network: torch.nn.Module) -> dict[str, Any]:
    config: Any = network.pretrained_cfg
    return dict(config)


def _facts(network: torch.nn.Module, choice: Choice) -> dict[str, Any]:
    config = timm.data.resolve_data_config(model=network)
    _check_images(config, choice.preprocess or {})
    interpolation = config["interpolation"] if config["interpolation"] in ("bicubic", "bilinear") else "bicubic"
    size = config["input_size"][-1]
    fraction = size / floor(size / config["crop_pct"])  # timm resizes to whole pixels
    how = interpolation, config["mean"], config["std"]
    return image_facts(size, min(1.0, fraction), *how, squashed=config["crop_mode"] == "squash")


def _check_images(config: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse images as no recipe makes them, unless it is said how they are made."""
    _, height, width = config["input_size"]
    if height != width and "size" not in said:
        raise ExportError(
            f"the network takes images of {height} x {width}, and a backbone's are square: say --preprocess with a "
            "size, where it takes others"
        )
    if config["crop_mode"] not in _CROPS and "recipe" not in said:
        raise ExportError(
            f"the network's images have the crop mode {config['crop_mode']!r}, and a backbone's {' or '.join(_CROPS)}: "
            f"say --preprocess with a recipe that is near, {ResizeCropPreprocess.recipe} or {SquashPreprocess.recipe}"
        )
