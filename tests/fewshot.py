"""Few-shot tasks of the tiny backbones, over a real port: what the tests of the service share."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from headwater.v1 import fewshot_pb2 as pb
from headwater.v1.extractor_pb2 import Item
from headwater.v1.fewshot_pb2_grpc import FewShotServiceStub
from tests.tiny import flat, png

IMAGE, TEXT = "tiny-image", "tiny-text"
WAIT_S = 60
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220)}


def picture(colour: str, i: int = 0) -> bytes:
    """Return an image of a colour, another one for each i below 30."""
    return png(flat(*(abs(value - i) for value in COLOURS[colour])))


class connected:  # reads as a function
    """A stub of the server at an address."""

    def __init__(self, address: str) -> None:
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._channel = grpc.insecure_channel(address, options)

    def __enter__(self) -> FewShotServiceStub:
        return FewShotServiceStub(self._channel)

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def refused(call: Callable[..., Any], request: Any) -> tuple[str, str, str]:
    """Return code, reason and message of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        found = call(request, timeout=WAIT_S)
        list(found) if hasattr(found, "__next__") else None
    error = caught.value
    return error.code().name, dict(error.trailing_metadata()).get("headwater-reason", ""), error.details()


def packed(rows: Any) -> bytes:
    return np.array(rows, "<f4").tobytes()


def items(*contents: bytes) -> list[Item]:
    return [Item(data=one) for one in contents]


def teach(stub: Any, task: str, *labels: str, backbone: str = IMAGE, **rest: Any) -> pb.AddExamplesResponse:
    """Make a task that knows a picture of each label."""
    stub.CreateTask(pb.CreateTaskRequest(name=task, backbone=backbone, **rest), timeout=WAIT_S)
    return add_pictures(stub, task, *labels)


def add_pictures(stub: Any, task: str, *labels: str, first: int = 0, **rest: Any) -> pb.AddExamplesResponse:
    pictures = items(*(picture(label, first + i) for i, label in enumerate(labels)))
    examples = pb.NewExamples(items=pictures, labels=labels, **rest)
    return stub.AddExamples(pb.AddExamplesRequest(task=task, examples=examples), timeout=WAIT_S)


def ask(stub: Any, task: str, *contents: bytes, **options: Any) -> pb.ClassifyResponse:
    request = pb.ClassifyRequest(task=task, items=items(*contents), options=pb.ClassifyOptions(**options))
    return stub.Classify(request, timeout=WAIT_S)


def facts(stub: Any, task: str) -> pb.Task:
    return stub.GetTask(pb.GetTaskRequest(task=task), timeout=WAIT_S)


def classes(stub: Any, task: str) -> dict[str, int]:
    return {one.label: one.n_examples for one in facts(stub, task).classes}


def first_labels(response: Any) -> list[str]:
    return [one.ranking[0].label if one.ranking else "" for one in response.classifications]
