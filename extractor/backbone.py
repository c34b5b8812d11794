"""Prepared arrays -> X (n, dim) float32: the frozen network in an onnxruntime session."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from extractor.errors import BackboneInvalid, ProviderUnavailable, RuntimeMissing
from extractor.outcome import Embedding
from extractor.spec import MODEL_FILE, Spec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ORT_ERRORS_ONLY = 3


class Backbone:
    """A loaded network; `forward` may be called from many threads at once.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    spec : Spec
    provider : str
        `cpu` or `cuda`.
    """

    def __init__(self, session: Any, spec: Spec, provider: str) -> None:
        self._session = session
        self.spec = spec
        self.provider = provider

    @classmethod
    def load(cls, folder: Path, spec: Spec, *, provider: str | None = None, threads: int = 1) -> Self:
        """Open a session on `folder/model.onnx`.

        Parameters
        ----------
        folder : Path
        spec : Spec
        provider : str, optional
            `cpu` or `cuda`; by default `cuda` where the installed onnxruntime was built for it.
        threads : int
            Threads inside one call; callers of `forward` come on top.

        Raises
        ------
        RuntimeMissing
            No onnxruntime is installed.
        ProviderUnavailable
            The provider did not load; another is never put in its place.
        BackboneInvalid
            The file is no graph that onnxruntime reads, or not the spec's.
        """
        ort = _onnxruntime()
        chosen = provider or default_provider()
        _check_available(ort, chosen)
        if chosen == "cuda" and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # the CUDA libraries that pip installed beside onnxruntime-gpu
        try:
            session = ort.InferenceSession(
                str(folder / MODEL_FILE), _options(ort, threads), providers=[_provider_options(chosen)]
            )
        except Exception as error:  # onnxruntime's exceptions share no public root
            raise BackboneInvalid(f"onnxruntime cannot load {folder / MODEL_FILE}: {error}") from None
        if PROVIDERS[chosen] not in session.get_providers():
            raise ProviderUnavailable(
                f"provider {chosen!r} did not load, only {session.get_providers()} did; "
                "check the driver and the CUDA libraries, or ask for --provider cpu"
            )
        _check_inputs(session, spec, folder)
        return cls(session, spec, chosen)

    def forward(self, arrays: Sequence[NDArray[Any]]) -> Embedding:
        """Compute the embeddings of one batch.

        Parameters
        ----------
        arrays : sequence of ndarray
            Prepared items: images uint8 (size, size, 3), or texts int64 (n_tokens,) of any lengths.

        Returns
        -------
        ndarray of shape (n, dim), float32
        """
        (embeddings,) = self._session.run(None, collate(self.spec, arrays))
        return np.asarray(embeddings, np.float32)


def collate(spec: Spec, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Join prepared items into the graph's named inputs.

    Images are stacked; texts are padded with zeros to the longest, and `attention_mask` says what is text.
    """
    if spec.modality == "image":
        (name,) = spec.input
        return {name: np.stack(arrays)}
    lengths = np.array([len(array) for array in arrays])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(arrays)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def default_provider() -> str:
    """Return `cuda` where the installed onnxruntime was built for it, else `cpu`; raises RuntimeMissing without one."""
    return "cuda" if PROVIDERS["cuda"] in _onnxruntime().get_available_providers() else "cpu"


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeMissing(
            "onnxruntime is not installed: pip install 'headwater[cpu]', or 'headwater[gpu]' beside an NVIDIA GPU"
        ) from None
    return onnxruntime


def _check_available(ort: Any, provider: str) -> None:
    if provider not in PROVIDERS:
        raise ProviderUnavailable(f"provider is {provider!r}, not one of {sorted(PROVIDERS)}")
    if PROVIDERS[provider] not in ort.get_available_providers():
        raise ProviderUnavailable(
            f"provider {provider!r} is not in this onnxruntime, which has {ort.get_available_providers()}: "
            "pip uninstall onnxruntime, then pip install 'headwater[gpu]'; or ask for --provider cpu"
        )


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ORT_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning robs the other workers
    return options


def _provider_options(provider: str) -> tuple[str, dict[str, str]]:
    # TF32 would be another precision, so another fingerprint: it is never left to the runtime's default.
    return PROVIDERS[provider], {"use_tf32": "0"} if provider == "cuda" else {}


def _check_inputs(session: Any, spec: Spec, folder: Path) -> None:
    found = {node.name for node in session.get_inputs()}
    if found != set(spec.input):
        raise BackboneInvalid(f"{folder / MODEL_FILE} takes {sorted(found)}, its spec says {sorted(spec.input)}")
