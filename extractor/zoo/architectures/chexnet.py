"""CheXNet: radiographs (n, 3, 224, 224) -> 14 probabilities of findings, and before them 1024 features.

DenseNet-121 with a layer of 14 sigmoids (Rajpurkar et al., "CheXNet", 2017). It takes the state dict of the usual
reimplementations, whose names are those of an older torchvision.
"""

import re
from typing import Any

import torch

from extractor.zoo.torchvision_import import mend_torchvision

N_FINDINGS = 14
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


class CheXNet(torch.nn.Module):
    """DenseNet-121 and 14 findings; `penultimate` is what these are told by.

    Parameters
    ----------
    n_findings : int
    """

    def __init__(self, n_findings: int = N_FINDINGS) -> None:
        super().__init__()
        mend_torchvision()
        from torchvision.models import densenet121

        self.densenet121 = densenet121(weights=None)
        self.densenet121.classifier = torch.nn.Sequential(
            torch.nn.Linear(self.densenet121.classifier.in_features, n_findings), torch.nn.Sigmoid()
        )
        self.register_load_state_dict_pre_hook(_renamed)  # type: ignore[no-untyped-call]  # torch has no types for it

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (n, 3, 224, 224) to probabilities (n, 14)."""
        found: torch.Tensor = self.densenet121(image)
        return found


def _renamed(_module: torch.nn.Module, weights: dict[str, Any], *_rest: Any) -> None:
    """Give weights the names that torchvision uses now: `norm.1.weight` became `norm1.weight`."""
    for name in list(weights):
        weights[_OLD_NAME.sub(r"\1\2.", name)] = weights.pop(name)
