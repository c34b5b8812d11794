"""The onnxruntime sessions: CPU and CUDA, in fp32, fp16 and int8, as the graph has it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from extractor.errors import BackboneInvalid, ProviderUnavailable, RuntimeMissing
from extractor.plan import Plan

PRECISIONS = ("fp32", "fp16", "int8")
_OF_PROVIDER = {"cuda": ("fp32", "fp16"), "cpu": PRECISIONS}  # fp16 on a CPU is for checking: it is slow there
_NAMES = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3
_REQUANTISING = ["WeightBiasQuantization"]  # by it onnxruntime would turn layers that were left in fp32 to int8


class OnnxSession:
    """One onnxruntime session, shared by the workers: its weights are in memory once.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def inputs(self) -> frozenset[str]:
        """The names of the graph's inputs."""
        return frozenset(node.name for node in self._session.get_inputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one batch."""
        (output,) = self._session.run(None, inputs)
        found: NDArray[Any] = output
        return found


def version() -> str:
    """Return onnxruntime's version."""
    return str(_onnxruntime().__version__)


def providers() -> dict[str, tuple[str, ...]]:
    """Return `cuda`, where the installed onnxruntime was built for it, and `cpu`, each with its precisions."""
    built = _onnxruntime().get_available_providers()
    return {provider: _OF_PROVIDER[provider] for provider, name in _NAMES.items() if name in built}


def open_session(path: Path, precision: str, plan: Plan) -> OnnxSession:
    """Open a session of `plan.threads` threads inside one call; callers of `run` come on top."""
    ort = _onnxruntime()
    name = _NAMES[plan.provider]
    if plan.provider == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # the CUDA libraries that pip installed beside onnxruntime-gpu
    try:
        session = ort.InferenceSession(
            str(path),
            _options(ort, plan.threads),
            providers=[(name, _provider_options(plan.provider))],
            disabled_optimizers=_REQUANTISING if precision == "int8" else None,
        )
    except Exception as error:  # onnxruntime's exceptions share no public root
        raise BackboneInvalid(f"onnxruntime cannot load {path}: {error}") from None
    if name not in session.get_providers():
        raise ProviderUnavailable(
            f"provider {plan.provider!r} did not load, only {session.get_providers()} did; "
            "check the driver and the CUDA libraries, or ask for --provider cpu"
        )
    return OnnxSession(session)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeMissing(
            "onnxruntime is not installed: pip install 'headwater[cpu]', or 'headwater[gpu]' beside an NVIDIA GPU"
        ) from None
    return onnxruntime


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning robs the other workers
    return options


def _provider_options(provider: str) -> dict[str, str]:
    # TF32 would be another precision, so another fingerprint: it is never left to the runtime's default.
    return {"use_tf32": "0"} if provider == "cuda" else {}
