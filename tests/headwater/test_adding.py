"""Examples on their way to a task: the test does the steps; what is sent, again, and what becomes of each."""

from typing import Any

import numpy as np
import pytest

from classifiers.errors import InvalidLabels, InvalidOption
from extractor.errors import EmptyItem, QueueFull, UndecodableItem
from extractor.outcome import Outcome
from headwater.adding import Adding, Tag, check_lengths, rows_to_add
from headwater.convert import RequestLimits
from headwater.fewshot_calls import Ask, Pause
from headwater.heads import item_status
from headwater.v1 import fewshot_pb2 as pb


def adding(**options: Any) -> Adding:
    return Adding("birds", RequestLimits(max_items=4, max_message_bytes=1 << 20), 10.0, **options)


def added(request: pb.AddExamplesRequest, version: int, errors: dict[int, Any] | None = None) -> pb.AddExamplesResponse:
    """Answer as a server does."""
    response = pb.AddExamplesResponse(version=version)
    for i, identity in enumerate(request.examples.ids):
        if errors and i in errors:
            response.examples.add(error=item_status(errors[i]))
        else:
            response.examples.add(id=identity)
            response.n_new += 1
    return response


def result(one: Adding, *responses: pb.AddExamplesResponse) -> Any:
    steps = one.result()
    try:
        step = steps.send(None)
        for response in responses:
            assert isinstance(step, Ask)
            step = steps.send(response)
    except StopIteration as end:
        return end.value
    raise AssertionError(step)


def test_a_request_is_full_by_its_examples_and_by_its_bytes() -> None:
    one = adding()
    for _ in range(4):
        assert not one.is_full(b"x")
        one.take(b"x", Tag("wren", None, ""))
    assert one.is_full(b"x")
    large = adding()
    assert not large.is_full(b"x" * (2 << 20))  # alone, it is for the server to refuse
    large.take(b"x" * 900_000, Tag("wren", None, ""))
    assert large.is_full(b"x" * 100_000)
    noted = adding()
    noted.take(b"x" * 900_000, Tag("wren", None, "n" * 4000))
    assert noted.is_full(b"x" * 80_000)


def test_items_that_met_a_full_queue_are_sent_again_with_their_ids() -> None:
    one = adding(if_version=3)
    one.take(b"a", Tag("wren", None, "first"))
    one.take(Outcome(error=EmptyItem("nothing")), Tag("wren", None, ""))
    one.take(b"b", Tag("robin", None, ""))
    one.take(b"c", Tag("robin", None, ""))
    steps = one.result()
    first = steps.send(None)
    assert isinstance(first, Ask)
    assert list(first.request.examples.labels) == ["wren", "robin", "robin"]
    assert list(first.request.examples.notes) == ["first", "", ""]
    assert first.request.if_version == 3
    refused = {1: QueueFull("full", retry_after_ms=10), 2: UndecodableItem("no image")}
    assert isinstance(steps.send(added(first.request, 4, refused)), Pause)
    second = steps.send(None)
    assert isinstance(second, Ask)
    assert list(second.request.examples.ids) == [first.request.examples.ids[1]]
    assert [item.data for item in second.request.examples.items] == [b"b"]
    assert second.request.if_version == 4
    with pytest.raises(StopIteration) as end:
        steps.send(added(second.request, 5))
    done = end.value.value
    assert (done.version, done.n_new) == (5, 2)
    assert [type(one.error) for one in done.examples] == [type(None), EmptyItem, type(None), UndecodableItem]


def test_what_was_there_before_is_not_new_where_the_caller_has_ids() -> None:
    for own, n_new in (("e1", 0), (None, 1)):
        one = adding()
        one.take(b"a", Tag("wren", own, ""))
        there = pb.AddExamplesResponse(version=7, examples=[pb.AddedExample(id=own or "x")], n_new=0)
        assert result(one, there).n_new == n_new


def test_rows_travel_as_one_matrix() -> None:
    one = adding(fingerprint="f" * 32)
    for row in rows_to_add([[1.0, 2.0], [3.0, 4.0]], "f" * 32):
        one.take(row, Tag("wren", None, ""))
    first = one.result().send(None)
    assert isinstance(first, Ask)
    assert np.frombuffer(first.request.examples.embeddings, "<f4").tolist() == [1, 2, 3, 4]
    assert not first.request.examples.notes
    with pytest.raises(InvalidOption, match=r"\(n, dim\), not \(3,\)"):
        list(rows_to_add([1.0, 2.0, 3.0], "f"))


def test_of_what_goes_together_there_is_as_much() -> None:
    with pytest.raises(InvalidLabels, match="2 items, 1 labels"):
        check_lengths(items=[1, 2], labels=["a"], ids=None)
