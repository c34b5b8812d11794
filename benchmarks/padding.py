"""A server's metrics page -> how much of its forwards was padding."""

import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass


@dataclass(frozen=True)
class Tokens:
    """What the forwards of a server cost so far: tokens of texts, and of padding."""

    real: float
    padding: float

    @property
    def waste(self) -> float:
        """The share of what was computed that was padding, in [0, 1)."""
        return self.padding / (self.real + self.padding)


def has_metrics() -> bool:
    """Tell whether this Headwater's `serve` can show metrics."""
    shown = subprocess.run([sys.executable, "-m", "headwater", "serve", "--help"], capture_output=True, text=True)
    return "--metrics-port" in shown.stdout


def read(port: int) -> Tokens:
    """Read a server's counters."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # none stands between a machine and itself
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return Tokens(_sum(page, "headwater_batch_cost_sum"), _sum(page, "headwater_batch_padding_total"))


def _sum(page: str, name: str) -> float:
    return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)))
