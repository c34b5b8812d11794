"""A network and one layer -> the network in fp32 where what that layer takes is rounded to fewer bits, weights too.

It shows what a precision costs at that layer, on any processor.
"""

from typing import Any

from onnx import TensorProto, helper

BF16, FP16 = TensorProto.BFLOAT16, TensorProto.FLOAT16


def rounded_at(model: Any, layer: str, kind: int) -> Any:
    """Return a copy of a model with the inputs of one node rounded to `BF16` or `FP16`."""
    copy = type(model)()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    place = next(i for i, node in enumerate(nodes) if node.name == layer)
    casts = []
    for i, name in enumerate(filter(None, nodes[place].input)):
        rounded, back = (f"{layer}/input_{i}/{what}" for what in ("rounded", "back"))
        casts += [
            helper.make_node("Cast", [name], [rounded], to=kind),
            helper.make_node("Cast", [rounded], [back], to=TensorProto.FLOAT),
        ]
        nodes[place].input[i] = back
    del copy.graph.node[:]
    copy.graph.node.extend([*nodes[:place], *casts, *nodes[place:]])
    return copy
