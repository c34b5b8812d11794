"""A backbone's folder and a head's -> one ONNX file: what the backbone's graph takes in; probabilities out."""

import dataclasses
import json
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, version_converter

from classifiers.head import Head
from classifiers.persist import load_head
from extractor.backbone import Backbone, collate
from extractor.errors import BackboneChanged, BackboneInvalid
from extractor.proof import Proof
from extractor.spec import MODEL_FILE, TOKENIZER_FILE, Spec, graph_bytes, read_spec, verify_files
from headwater.errors import HeadNotExported
from headwater.onnx_head.export import check_size, weights_bytes, write_proved
from headwater.onnx_head.graph import INPUT, add_metadata, head_graph
from headwater.onnx_head.nodes import OPSET
from headwater.onnx_head.proof import BATCHES, answers, check, differences, open_session
from headwater.shelf import title

OLDEST_OPSET = 18  # the first in which the head's operators are as they are now
PREFIX = "backbone/"  # of all values of the backbone but its inputs, so that none has the name of one of the head's


def fuse(backbone: Path, head: Path, out: Path) -> float:
    """Write a backbone and a head as one ONNX file, for plain onnxruntime.

    Its inputs are those of the backbone's `model.onnx`, its outputs those of `head_graph`; its metadata say what the
    outputs mean, and how an item becomes the inputs. The file is compared with the two steps, the
    backbone's own session and then the head, on the backbone's golden items, before it appears.

    Parameters
    ----------
    backbone, head : Path
        Their folders.
    out : Path
        A file that is there already is replaced.

    Returns
    -------
    float
        The largest difference that the comparison found, at most 1e-5.

    Raises
    ------
    BackboneNotFound, BackboneInvalid, HeadInvalid
        A folder that cannot be read, or that was altered.
    BackboneChanged
        The head was trained on embeddings of another fingerprint.
    HeadNotExported
        The backbone is in a precision that plain onnxruntime has not, the head has no graph, the whole is larger than
        one file can be, or it does not compute what the two steps do.
    OutputNotWritable
        The file cannot be written.
    """
    spec = read_spec(backbone)
    model, manifest = load_head(head)
    if spec.fingerprint != manifest.fingerprint:
        raise BackboneChanged(
            f"head {title(head)!r} was trained on {manifest.backbone} {manifest.fingerprint}, and {spec.name} is "
            f"{spec.fingerprint}; fuse it with the backbone that it was trained on, or train it again"
        )
    _check_precision(spec)
    verify_files(backbone, spec)
    check_size(graph_bytes(backbone) + weights_bytes(head_graph(model)))
    graph = _merged(_read(backbone / MODEL_FILE), model, spec.name)
    add_metadata(graph, model, manifest, title(head))
    _add_recipe(graph, spec)
    return write_proved(graph, out, lambda path: _prove(path, Backbone.load(backbone, spec), backbone, model))


def _check_precision(spec: Spec) -> None:
    if spec.precision != "fp32":
        raise HeadNotExported(
            f"{spec.name} is in {spec.precision}, and plain onnxruntime computes in fp32: one file would give other "
            "embeddings than the head was trained on; train a head on the backbone in fp32, and fuse these two"
        )


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's exceptions share no public root
        raise BackboneInvalid(f"{path} is no ONNX graph ({error}); export the backbone again") from None


def _merged(backbone: onnx.ModelProto, head: Head, name: str) -> onnx.ModelProto:
    """Return one graph: the backbone's output is the head's input, and the batch axis stays as the backbone has it."""
    opset = next(one.version for one in backbone.opset_import if one.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        backbone, opset = version_converter.convert_version(backbone, OPSET), OPSET
    (output,) = backbone.graph.output
    body = compose.add_prefix(backbone, PREFIX, rename_inputs=False)
    last = head_graph(head, opset=opset)
    body.ir_version = last.ir_version = max(body.ir_version, last.ir_version)
    for model in (body, last):
        model.ClearField("metadata_props")
    joint = [(PREFIX + output.name, INPUT)]
    return compose.merge_models(body, last, io_map=joint, name=name, producer_name="headwater")


def _add_recipe(graph: onnx.ModelProto, spec: Spec) -> None:
    """Write beside the graph how an item becomes its inputs."""
    facts = {"modality": spec.modality, "preprocess": json.dumps(dataclasses.asdict(spec.preprocess))}
    if TOKENIZER_FILE in spec.files:
        facts["tokenizer_sha256"] = spec.files[TOKENIZER_FILE]
    for key, value in facts.items():
        graph.metadata_props.add(key=key, value=value)


def _prove(path: Path, backbone: Backbone, folder: Path, head: Head) -> float:
    """Compare a file with the two steps on the golden items, one by one, and repeated to fill larger batches."""
    session = open_session(path)
    arrays = Proof.load(backbone.spec, folder).arrays
    mixed = backbone.spec.pads or not backbone.spec.varies
    mates = arrays if mixed else arrays[:1]  # of one length
    batches = [[array] for array in arrays] + [list(islice(cycle(mates), size)) for size in BATCHES if size > 1]
    return check(np.concatenate([_apart(session, backbone, head, batch) for batch in batches]))


def _apart(session: Any, backbone: Backbone, head: Head, batch: list[NDArray[Any]]) -> NDArray[np.float64]:
    """Return how far the answers of a file are from those of the two steps, for each of a batch's items."""
    embeddings = backbone.forward(batch)
    found = answers(session, collate(backbone.spec, batch))
    return differences(found, head, embeddings, head.scores(embeddings))
