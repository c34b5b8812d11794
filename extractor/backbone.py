"""Prepared arrays -> X (n, dim) float32: the frozen network in a runtime's session."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from extractor.errors import BackboneInvalid
from extractor.outcome import Embedding
from extractor.plan import Plan
from extractor.runtime import Session, open_session
from extractor.spec import LENGTHS, MASK, MODEL_FILE, Spec


class Backbone:
    """A loaded network; `forward` may be called from many threads at once.

    Parameters
    ----------
    session : Session
    spec : Spec
    plan : Plan
        How the session was opened.
    """

    def __init__(self, session: Session, spec: Spec, plan: Plan) -> None:
        self._session = session
        self.spec = spec
        self.plan = plan

    @classmethod
    def load(cls, folder: Path, spec: Spec, plan: Plan | None = None) -> Self:
        """Open a session on `folder/model.onnx`, in the spec's precision.

        Parameters
        ----------
        folder : Path
        spec : Spec
        plan : Plan, optional
            By default onnxruntime on one thread of the CPU.

        Raises
        ------
        RuntimeMissing
            The plan's runtime is not installed.
        ProviderUnavailable
            The runtime or provider did not load, or has not the spec's precision; another is never put in its place.
        BackboneInvalid
            The file is no graph that the runtime reads, or not the spec's.
        """
        plan = plan or Plan()
        session = open_session(folder / MODEL_FILE, spec.precision, plan)
        if session.inputs != set(spec.input):
            raise BackboneInvalid(
                f"{folder / MODEL_FILE} takes {sorted(session.inputs)}, its spec says {sorted(spec.input)}"
            )
        return cls(session, spec, plan)

    def __str__(self) -> str:
        """Say how it runs: `openvino cpu bf16, 2 × 1 threads`."""
        plan = self.plan
        return f"{plan.runtime} {plan.provider} {self.spec.precision}, {plan.workers} × {plan.threads} threads"

    @property
    def provider(self) -> str:
        """`cpu` or `cuda`."""
        return self.plan.provider

    def forward(self, arrays: Sequence[NDArray[Any]]) -> Embedding:
        """Compute the embeddings of one batch; one forward for each length where the graph cannot tell padding.

        Parameters
        ----------
        arrays : sequence of ndarray
            Prepared items, as `extractor.prepare.Prepared` describes them; where items vary, of any lengths.

        Returns
        -------
        ndarray of shape (n, dim), float32
        """
        if not self.spec.varies or self.spec.pads:
            return self._run(arrays)
        embeddings = np.empty((len(arrays), self.spec.dim), np.float32)
        for length in sorted({len(array) for array in arrays}):
            rows = [row for row, array in enumerate(arrays) if len(array) == length]
            embeddings[rows] = self._run([arrays[row] for row in rows])
        return embeddings

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Embedding:
        return np.asarray(self._session.run(collate(self.spec, arrays)), np.float32)


def collate(spec: Spec, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Join prepared items into the graph's named inputs.

    Items of one shape are stacked. Others are padded with zeros to the longest, and `attention_mask`, or `lengths`,
    says what is padding.
    """
    if not spec.pads:
        return {spec.values: np.stack(arrays)}
    lengths = np.array([len(array) for array in arrays], np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros((*mask.shape, *arrays[0].shape[1:]), arrays[0].dtype)
    padded[mask] = np.concatenate(arrays)
    inputs = {spec.values: padded, MASK: mask.astype(np.int64), LENGTHS: lengths}
    return {name: inputs[name] for name in spec.input}
