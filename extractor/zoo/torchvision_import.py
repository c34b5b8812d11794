"""Nothing -> nothing: lets `import torchvision` succeed beside a torch that it was not linked to.

PyPI's torchvision is linked to CUDA. Beside a CPU torch its compiled operators do not load, and then its import fails
("operator torchvision::nms does not exist"); transformers imports it wherever it is installed. The networks here use
none of these operators, so declaring the four that the import looks up is enough: calling one still fails.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_ALIGN = (
    "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, "
    "bool aligned) -> Tensor"
)
_SCHEMAS = {"nms": _BOXES, "qnms": _BOXES, "roi_align": _ALIGN, "qroi_align": _ALIGN}

_declared: list[torch.library.Library] = []  # a Library takes its operators along when it goes


def mend_torchvision() -> None:
    """Declare torchvision's operators where it is installed and its own do not load; else do nothing."""
    if "torchvision" in sys.modules or _declared or _operators_load():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        library.define(name + schema)
    _declared.append(library)


def _operators_load() -> bool:
    """Tell whether torchvision is absent, or has compiled operators that load into this torch."""
    found = find_spec("torchvision")
    if found is None:
        return True
    libraries = [path for folder in found.submodule_search_locations or () for path in Path(folder).glob("_C*.*")]
    try:
        for path in libraries:
            torch.ops.load_library(path)
    except OSError:
        return False
    return bool(libraries)
