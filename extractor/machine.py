"""The machine in words: the same words wherever a plan that was measured here fits."""

import platform
from pathlib import Path

from extractor.plan import cores

_CPU_FACTS = Path("/proc/cpuinfo")
_GPU_FACTS = Path("/proc/driver/nvidia/gpus")


def machine() -> str:
    """Return the processor's model, the cores that this process may use, and the models of the NVIDIA GPUs."""
    n = cores()
    return ", ".join([_cpu(), f"{n} core{'s' if n > 1 else ''}", *_gpus()])


def _cpu() -> str:
    found = _fact(_CPU_FACTS, "model name") if _CPU_FACTS.is_file() else ""
    return found or platform.processor() or platform.machine() or "unknown processor"


def _gpus() -> list[str]:
    return [_fact(path, "Model") for path in sorted(_GPU_FACTS.glob("*/information"))]


def _fact(path: Path, name: str) -> str:
    """Return the value of the first line `name: value`."""
    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return " ".join(value.split())
    return ""
