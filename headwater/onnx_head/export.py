"""The folder of a head -> one ONNX file, proved equal to it; also how a proved file is written."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import onnx

from classifiers.persist import load_head
from headwater.errors import HeadNotExported, OutputNotWritable
from headwater.onnx_head.graph import add_metadata, head_graph
from headwater.onnx_head.proof import open_session, prove
from headwater.shelf import title

MAX_BYTES = (1 << 31) - 1  # what protobuf, and so one ONNX file, can hold


def export_head(folder: Path, out: Path) -> float:
    """Write a head as ONNX: embeddings (n, dim) float32 in, what `head_graph` says out.

    The file is compared with the head before it appears; where it is not the same to 1e-5, there is none.

    Parameters
    ----------
    folder : Path
        The head's, as `headwater train` makes it.
    out : Path
        A file that is there already is replaced.

    Returns
    -------
    float
        The largest difference that the comparison found.

    Raises
    ------
    HeadInvalid
        The folder holds no head that can be read.
    HeadNotExported
        The head has no graph, or its graph does not compute the same.
    OutputNotWritable
        The file cannot be written.
    """
    head, manifest = load_head(folder)
    model = head_graph(head)
    add_metadata(model, head, manifest, title(folder))
    return write_proved(model, out, lambda path: prove(open_session(path), head))


def write_proved(model: onnx.ModelProto, out: Path, proof: Callable[[Path], float]) -> float:
    """Write a graph under a temporary name, let a proof read it there, and rename it; returns what the proof does."""
    check_size(weights_bytes(model))
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(model.SerializeToString())
        difference = proof(temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise OutputNotWritable(f"cannot write {out}: {error.strerror or error}; choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def check_size(n_bytes: int) -> None:
    """Raise HeadNotExported for more than one ONNX file can hold."""
    if n_bytes > MAX_BYTES:
        raise HeadNotExported(
            f"the graph has {n_bytes:,} bytes of weights, and one ONNX file holds {MAX_BYTES:,}; ship backbone and "
            "head apart, or train a head that keeps fewer rows"
        )


def weights_bytes(model: onnx.ModelProto) -> int:
    """Return how many bytes a graph's constants have; protobuf itself cannot tell of one that is too large."""
    return sum(len(one.raw_data) for one in model.graph.initializer)
