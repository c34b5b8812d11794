"""A head -> an ONNX graph: `embedding` (n, dim) float32 in, probabilities and labels, or values, out."""

import json

import numpy as np
import onnx
from onnx import helper

from classifiers.head import ENERGY, MULTI, REGRESSION, SINGLE, Head
from classifiers.persist import Manifest
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Kernel, Layers
from headwater.errors import HeadNotExported
from headwater.onnx_head.estimators import KernelFunction, add_estimator, add_kernel
from headwater.onnx_head.nodes import BOOL, DOUBLE, FLOAT, INT64, IR_VERSION, OPSET, Nodes

INPUT = "embedding"
ROUNDING = 16 * float(np.finfo(np.float32).eps)  # as `Preparation` has it for float32


def head_graph(head: Head, *, opset: int = OPSET) -> onnx.ModelProto:
    """Write a head as an ONNX graph, which computes in double and needs nothing but onnxruntime.

    Its input is `embedding` (n, dim) float32, which must be finite: a head refuses NaN, a graph cannot. Its outputs:
    of a single label `probabilities` (n, n_classes) float32 and `label` (n,) int64, a position among the classes; of
    several labels `probabilities` and `labels` (n, n_classes) bool; of a regression `values` (n, n_classes) float32.
    Where the head can reject, also `known` (n,) float32, its confidence or energy, and `unknown` (n,) bool.

    Parameters
    ----------
    head : Head
    opset : int
        From 18 on: what the backbone's graph has, where the two are to be one.

    Raises
    ------
    HeadNotExported
        The head's estimator has no graph.
    """
    nodes = Nodes()
    rows = _add_preparation(nodes, head.scorer.preparation, nodes.cast(INPUT, DOUBLE))
    scores = _add_scores(nodes, head, rows)
    if head.kind == REGRESSION:
        nodes.output("values", scores, FLOAT, len(head.classes_))
    else:
        _add_answers(nodes, head, scores)
    graph = helper.make_graph(
        nodes.nodes,
        "head",
        [helper.make_tensor_value_info(INPUT, FLOAT, ["batch", head.dim])],
        nodes.outputs,
        nodes.constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="headwater")


def add_metadata(model: onnx.ModelProto, head: Head, manifest: Manifest, name: str) -> None:
    """Write beside a graph what its outputs mean: `labels`, `kind`, `rejection` as JSON, and where the head is from."""
    rejection = head.rejection
    facts = {
        "labels": json.dumps(head.classes_.tolist(), ensure_ascii=False),
        "kind": head.kind,
        "rejection": json.dumps(
            rejection and {"score": rejection.score, "threshold": rejection.threshold, "rule": rejection.rule}
        ),
        "head": name,
        "created": manifest.created,
        "backbone": manifest.backbone,
        "fingerprint": manifest.fingerprint,
        "dim": str(manifest.dim),
        "versions": json.dumps(dict(manifest.versions)),
    }
    helper.set_model_props(model, facts)


def _add_preparation(nodes: Nodes, preparation: Preparation, rows: str) -> str:
    """Return prepared rows."""
    if preparation.transformation == "UN":
        return rows
    unit = _add_unit_length(nodes, rows)
    if preparation.transformation == "L2N":
        return unit
    centred = nodes.add("Sub", unit, nodes.double(preparation.center))
    if preparation.transformation == "SCALED":
        return nodes.add("Div", centred, nodes.double(preparation.scale))
    largest = nodes.add("ReduceMax", nodes.add("Abs", centred), nodes.int64([1]), keepdims=1)
    least = nodes.double(ROUNDING * float(np.abs(preparation.center).max()))
    directed = nodes.cast(nodes.add("Greater", largest, least), DOUBLE)
    return _add_unit_length(nodes, nodes.add("Mul", centred, directed))


def _add_unit_length(nodes: Nodes, rows: str) -> str:
    """Return rows of length 1; of zeros, zeros. In double no square of a float32 overflows or vanishes."""
    squares = nodes.sum(nodes.add("Mul", rows, rows), 1, keepdims=1)
    zero = nodes.cast(nodes.add("Equal", squares, nodes.double(0.0)), DOUBLE)
    return nodes.add("Div", rows, nodes.add("Sqrt", nodes.add("Add", squares, zero)))


def _add_scores(nodes: Nodes, head: Head, rows: str) -> str:
    match head.scorer:
        case Layers(weights=weights, biases=biases):
            for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                entering = nodes.add("Relu", rows) if i else rows
                product = nodes.add("MatMul", entering, nodes.double(weight.T))
                rows = nodes.add("Add", product, nodes.double(bias))
            return rows
        case Kernel(support=support, dual=dual, bias=bias, gamma=gamma):
            similarity = add_kernel(nodes, KernelFunction("rbf", gamma), rows, support)
            return nodes.add("Add", nodes.add("MatMul", similarity, nodes.double(dual.T)), nodes.double(bias))
        case Fitted(estimator=estimator):
            return add_estimator(nodes, estimator, rows)
    raise HeadNotExported(f"a {type(head.scorer).__name__} cannot be written as ONNX; train another head")


def _add_answers(nodes: Nodes, head: Head, scores: str) -> None:
    n_classes = len(head.classes_)
    scaled = nodes.add("Mul", scores, nodes.double(head.calibration.scale))
    calibrated = nodes.add("Add", scaled, nodes.double(head.calibration.shift))
    single = head.kind == SINGLE
    probabilities = nodes.add("Softmax", calibrated, axis=1) if single else nodes.add("Sigmoid", calibrated)
    nodes.output("probabilities", probabilities, FLOAT, n_classes)
    if head.kind == MULTI:
        nodes.output("labels", nodes.add("Greater", probabilities, nodes.double(0.5)), BOOL, n_classes)
    else:
        nodes.output("label", nodes.add("ArgMax", calibrated, axis=1, keepdims=0), INT64)
    if head.rejection:
        axis = nodes.int64([1])
        if head.rejection.score == ENERGY:
            known = nodes.add("ReduceLogSumExp", scores, axis, keepdims=0)
        else:
            known = nodes.add("ReduceMax", probabilities, axis, keepdims=0)
        nodes.output("known", known, FLOAT)
        nodes.output("unknown", nodes.add("Less", known, nodes.double(head.rejection.threshold)), BOOL)
