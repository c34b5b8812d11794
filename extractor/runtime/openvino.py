"""The OpenVINO sessions: CPU, in fp32 and, where the processor has it, bf16."""

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from extractor.errors import BackboneInvalid, ProviderUnavailable, RuntimeMissing
from extractor.plan import Plan

PRECISIONS = ("fp32", "bf16")
_DEVICE = "CPU"
# OpenVINO fills its table of dtypes at its first use, and lets the GIL go meanwhile: where two threads are the first,
# one waits for the table with the GIL, the other for the GIL, and the process stands still for ever. So one is first.
_FIRST = Lock()
_TELEMETRY = "openvino_telemetry"
_CACHED_SHAPES = 64  # by default 5,000: texts of all lengths then take 800 MB and more; these take 7 % of the speed
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_CAPABILITIES = {"FP32": "fp32", "BF16": "bf16"}


class OpenvinoSession:
    """One compiled network with a stream a worker; each call has an infer request to itself.

    Calls from as many threads as there are streams are as fast as OpenVINO's own asynchronous queue, within 5 %, at
    batch 1; at batch 8 that queue was up to 8 % ahead.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._idle: deque[Any] = deque()  # infer requests; appending and popping are atomic

    @property
    def inputs(self) -> frozenset[str]:
        """The names of the graph's inputs."""
        return frozenset(port.get_any_name() for port in self.compiled.inputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one batch."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        try:
            found: NDArray[Any] = request.infer(dict(inputs), share_inputs=True)[0]  # a copy: the request is used again
        finally:
            self._idle.append(request)
        return found


def version() -> str:
    """Return OpenVINO's version."""
    return str(_openvino().__version__).partition("-")[0]


def providers() -> dict[str, tuple[str, ...]]:
    """Return `cpu` with its precisions; bf16 only where the processor computes in it."""
    _openvino()
    return {"cpu": _precisions()}


def open_session(path: Path, precision: str, plan: Plan) -> OpenvinoSession:
    """Compile a network for `plan.workers` calls at once, of `plan.threads` threads each."""
    try:
        compiled = _core().compile_model(str(path), _DEVICE, _settings(precision, plan))
    except Exception as error:  # OpenVINO raises plain RuntimeErrors
        raise BackboneInvalid(f"openvino cannot load {path}: {error}") from None
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != _HINTS[precision]:
        raise ProviderUnavailable(
            f"openvino computes in {taken}, not in {precision}, on this processor; serve the backbone in fp32"
        )
    return OpenvinoSession(compiled)


def _settings(precision: str, plan: Plan) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],  # its own default is bf16, wherever the processor has it
        "NUM_STREAMS": plan.workers,
        "INFERENCE_NUM_THREADS": plan.workers * plan.threads,
        "ENABLE_CPU_PINNING": False,  # two backbones would be pinned to the same cores
        "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_SHAPES,
    }


def _openvino() -> Any:
    try:
        with _without_telemetry():
            import openvino
    except ImportError:
        raise RuntimeMissing("openvino is not installed: pip install 'headwater[openvino]'") from None
    with _FIRST:
        openvino.Type.f32.to_dtype()
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide `openvino_telemetry` while openvino is imported: it would report the import, and write into the user's home.

    Openvino then takes the stub that it brings for where that package is not installed.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        yield  # another has imported it, on that one's own terms
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what Python itself takes for "not to be imported"
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


@cache
def _core() -> Any:
    return _openvino().Core()


@cache
def _precisions() -> tuple[str, ...]:
    capable = _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return tuple(precision for name, precision in _CAPABILITIES.items() if name in capable)
