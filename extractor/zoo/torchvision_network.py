"""`torchvision:NAME[@WEIGHTS]`: images -> any layer of a classification network, or the maps of a detector's backbone.

A layer is a module, or any node that torchvision's own tracing finds: `headwater layers torchvision:resnet50`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from extractor.errors import BackboneNotFound, ExportError
from extractor.zoo.choice import PENULTIMATE, RANDOM, Choice
from extractor.zoo.images import image_facts, image_front
from extractor.zoo.layer import Layer
from extractor.zoo.near import near
from extractor.zoo.taps import Run, Tapped, copied, find_tap, free_axes, layers_of, runs_again
from extractor.zoo.torch_network import RANDOM_SOURCE, TorchNetwork, brought, seeded
from extractor.zoo.torchvision_import import mend_torchvision
from extractor.zoo.weights import HASH_IN_NAME, bring_weights, read_weights

mend_torchvision()

from torchvision import models  # noqa: E402  # only after the mending does it import everywhere
from torchvision.models import detection  # noqa: E402
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names  # noqa: E402

_LICENCE = "BSD-3-Clause"
_SLOW = ("inception_v3", "googlenet")  # which take a minute to draw weights that are then replaced
_PYRAMID = re.compile(r"fpn\.layer_blocks\.\d+")


def build(reference: str, choice: Choice) -> TorchNetwork:
    """Load a network and its weights.

    Parameters
    ----------
    reference : str
        A name of `torchvision.models`, with `@WEIGHTS` for others than the best that there are.
    choice : Choice

    Raises
    ------
    BackboneNotFound
        torchvision has no such network, or no such weights.
    ExportError
        The weights cannot be had or read, or are of another network; or there is no such layer.
    """
    name, _, weights_name = reference.partition("@")
    published = _published(name, weights_name)
    whole, source = _load(name, published, choice)
    front = image_front(_facts(whole, published), choice)
    network = _embedding_part(whole)
    layers = tuple(choice.layers or _by_default(network))
    return brought(
        name,
        front.embedder(_tapped(network, layers, lambda: network(front.example())), choice.pooling),
        choice,
        **front.facts(),
        source=f"{choice.source or f'torchvision {name}'}, {source}; {', '.join(layers)}",
        licence=published.meta.get("license", _LICENCE) if published else _LICENCE,
    )


def layers(reference: str, choice: Choice) -> list[Layer]:
    """Return the layers of a network, which is made without its weights."""
    name, _, weights_name = reference.partition("@")
    published = _published(name, weights_name)
    whole = _made(name, choice)
    image = image_front(_facts(whole, published), choice).example()
    network = _embedding_part(whole)
    try:
        _, nodes = get_graph_node_names(network)
        part = create_feature_extractor(network, nodes[1:])
        with torch.inference_mode():
            found = part(image)
    except Exception:  # torch.fx cannot trace every network; its exceptions share no root
        return layers_of(network, [lambda: network(image)])
    modules = dict(network.named_modules())
    return [
        Layer(node, "", type(modules[node]).__name__ if node in modules else "", free_axes([tuple(value.shape)]))
        for node, value in found.items()
        if isinstance(value, torch.Tensor) and value.ndim
    ]


def _published(name: str, weights_name: str) -> Any:
    """Return what torchvision knows of the weights; None where none were published."""
    known = [*models.list_models(module=models), *models.list_models(module=detection)]
    if name not in known:
        raise BackboneNotFound(f"torchvision has no network {name!r}; {near(name, known)}")
    kinds = models.get_model_weights(name)
    if weights_name and weights_name not in kinds.__members__:
        there = ", ".join(kinds.__members__) or "none"
        raise BackboneNotFound(f"torchvision has no weights {weights_name!r} for {name}; there are: {there}")
    return kinds[weights_name or "DEFAULT"] if len(kinds) else None


def _load(name: str, published: Any, choice: Choice) -> tuple[torch.nn.Module, str]:
    """Return the network with its weights, and where these come from."""
    if choice.weights == RANDOM:
        return _made(name, choice), RANDOM_SOURCE
    if choice.weights:
        network = _made(name, choice)
        return network, bring_weights(network, choice)
    if published is None:
        raise ExportError(f"torchvision published no weights for {name}; give yours: --weights FILE")
    read_weights(_fetched(published.url), choice.sha256)  # of that hash, and nothing but tensors: now it may be loaded
    return _made(name, choice, published), f"{published.name}, {published.url}"


def _made(name: str, choice: Choice, published: Any = None) -> torch.nn.Module:
    """Return the network, as torchvision makes it for published weights, or with weights that are drawn."""
    options: dict[str, Any] = {"weights": published}
    if published is None and name in _SLOW:
        options["init_weights"] = False
    if published is None and name in models.list_models(module=detection):
        options["weights_backbone"] = None
    seeded()
    try:
        network: torch.nn.Module = models.get_model(name, **options | dict(choice.arguments or {}))
    except Exception as error:  # whatever a network's own code raises
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ExportError(f"{name} cannot be made with --arguments {choice.arguments}: {why}") from None
    return network.eval()


def _fetched(url: str) -> Path:
    """Return torch's own cached copy of published weights, and download it where there is none."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            wanted = HASH_IN_NAME.search(path.name)
            torch.hub.download_url_to_file(url, str(path), wanted and wanted.group(1), progress=False)
        except (OSError, RuntimeError) as error:
            raise ExportError(
                f"{url} cannot be fetched ({error}); put the file into {path.parent}, or name it: --weights FILE"
            ) from None
    return path


def _facts(network: torch.nn.Module, published: Any) -> dict[str, Any]:
    """Return how the network's images are made, as it was trained."""
    if hasattr(network, "transform"):  # a detector
        own: Any = network.transform
        return image_facts(own.min_size[-1], 1.0, "bilinear", own.image_mean, own.image_std)
    how = published.transforms() if published else None
    if how is None:
        return {}
    size, resized = how.crop_size[0], how.resize_size[0]
    return image_facts(size, min(1.0, size / resized), how.interpolation.value, how.mean, how.std)


def _embedding_part(network: torch.nn.Module) -> torch.nn.Module:
    """Return a detector's backbone, or the whole network."""
    return network.backbone if hasattr(network, "transform") else network  # type: ignore[return-value]


def _by_default(network: torch.nn.Module) -> list[str]:
    pyramid = [name for name, _ in network.named_modules() if _PYRAMID.fullmatch(name)]
    return pyramid or [PENULTIMATE]


def _tapped(network: torch.nn.Module, layers: Sequence[str], run: Run) -> torch.nn.Module:
    """Return the network up to layers: by hooks where they are modules, by tracing where they are other nodes.

    The name of a module that runs several times is that of its first run, as `layers` lists them.
    """
    modules = dict(network.named_modules())
    named = [name for name in layers if name != PENULTIMATE]
    unknown = [name for name in named if name not in modules]
    if unknown or runs_again(network, named, run):
        try:
            return _Nodes(create_feature_extractor(network, {name: name for name in layers}), layers)
        except Exception:  # torch.fx cannot trace every network; its exceptions share no root
            if unknown:
                find_tap(network, unknown[0], run)
            if unknown or len(named) < len(layers):
                raise ExportError(
                    f"{(unknown or named)[0]!r} cannot be combined with {', '.join(layers)}: it is one of several "
                    f"steps of a module; leave {PENULTIMATE} away, and name modules alone or steps alone"
                ) from None
    return Tapped(network, [find_tap(network, name, run) for name in layers])


class _Nodes(torch.nn.Module):
    """A traced network, whose values by name become a list; each is a copy, for a later node may write into it."""

    def __init__(self, traced: torch.fx.GraphModule, layers: Sequence[str]) -> None:
        super().__init__()
        self.traced = _copying(traced)
        self.layers = tuple(layers)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        found = self.traced(image)
        return [found[name] for name in self.layers]


def _copying(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return a traced network that copies what it gives at once."""
    graph = traced.graph
    end = graph.output_node()
    found: dict[str, Any] = {}
    for name, node in cast(dict[str, torch.fx.Node], end.args[0]).items():
        with graph.inserting_after(node):
            found[name] = graph.call_function(copied, (node, name))
    end.args = (found,)
    traced.recompile()
    return traced
