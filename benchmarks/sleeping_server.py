"""`headwater serve` whose sessions sleep instead of computing: a known capacity that costs no processor time.

Run: python benchmarks/sleeping_server.py DELAY_MS serve BACKBONE …
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from extractor.backbone import Backbone
from extractor.proof import Proof
from headwater.cli import main


def sleep_instead(delay_s: float) -> None:
    """Let every forward sleep so long an item and answer zeros, and golden items pass unseen."""

    def forward(self: Backbone, arrays: Sequence[Any]) -> np.ndarray:
        time.sleep(delay_s * len(arrays))
        return np.zeros((len(arrays), self.spec.dim), np.float32)

    Backbone.forward = forward  # type: ignore[method-assign]
    Proof.check = lambda self, backbone: None  # type: ignore[method-assign]


if __name__ == "__main__":
    sleep_instead(float(sys.argv.pop(1)) / 1000)
    main()
