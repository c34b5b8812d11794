"""Arbitrary bytes and messages at every RPC: never INTERNAL, never a crash."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractor import Extractor
from headwater import Client, v1
from headwater.v1 import classifier_pb2 as heads
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import fewshot_pb2 as taught
from tests.heads import keep
from tests.inprocess import in_this_process
from tests.tiny import flat, png

WAIT_S = 20
FILES = [
    __import__(f"headwater.v1.{path.stem}", fromlist=["DESCRIPTOR"]).DESCRIPTOR
    for path in sorted(Path(v1.__path__[0]).glob("*_pb2.py"))
]
METHODS: list[MethodDescriptor] = [
    method
    for file in (*FILES, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
    if method.name != "Drain"  # any bytes that are a message of it leave nothing to ask
]
BLAMELESS = {  # whoever sends rubbish hears that it was rubbish, or that there is no such thing
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}
GIVEN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.tiny import write_tiny_image, write_tiny_text

    home = tmp_path_factory.mktemp("properties")
    extractors = {
        "tiny-image": Extractor.load(write_tiny_image(home / "tiny-image")),
        "tiny-text": Extractor.load(write_tiny_text(home / "tiny-text")),
    }
    with pytest.MonkeyPatch.context() as patch, in_this_process(extractors) as one:
        patch.setenv("HEADWATER_HOME", str(home))
        keep("fixed", "f" * 32)
        yield one.address


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
        yield channel


def name(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


METHOD_OF = {method.name: method for method in METHODS}


def name_of(method: str) -> str:
    return name(METHOD_OF[method])


def packed(values: list[float]) -> bytes:
    return np.array(values, "<f4").tobytes()


def send(channel: grpc.Channel, method: MethodDescriptor, messages: Sequence[bytes]) -> grpc.StatusCode:
    """Send raw bytes to a method of any kind, read all of its answer, and return the code.

    A watch never ends by itself: after its first answer it is left.
    """
    if method.client_streaming:
        call = channel.stream_stream(name(method))(iter(messages), timeout=WAIT_S)
    elif method.server_streaming:
        call = channel.unary_stream(name(method))(messages[0], timeout=WAIT_S)
    else:
        return channel.unary_unary(name(method)).with_call(messages[0], timeout=WAIT_S)[1].code()
    if method.name == "Watch":
        next(call)
        call.cancel()
        return grpc.StatusCode.OK
    list(call)
    code: grpc.StatusCode = call.code()
    return code


def code_of(channel: grpc.Channel, method: MethodDescriptor, messages: Sequence[bytes]) -> grpc.StatusCode:
    try:
        return send(channel, method, messages)
    except grpc.RpcError as error:
        return error.code()


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel, method: MethodDescriptor) -> None:
    assert code_of(channel, method, [b"\xff\xff\xff\xff"]) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_arbitrary_bytes_never_break_the_server(channel: grpc.Channel, method: MethodDescriptor) -> None:
    @GIVEN
    @given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    def check(messages: list[bytes]) -> None:
        assert code_of(channel, method, messages) in BLAMELESS

    check()


ITEMS = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"red dog", b"\xff", "Ärger".encode(), png(flat(3)), png(flat(4))[:40], b"\x93NUMPY\x01\x00"]
    ),
)


@GIVEN
@given(
    backbone=st.one_of(st.sampled_from(["tiny-image", "tiny-text", ""]), st.text(max_size=300)),
    items=st.lists(ITEMS, max_size=20),
)
def test_arbitrary_items_each_get_an_outcome_of_their_own(
    channel: grpc.Channel, backbone: str, items: list[bytes]
) -> None:
    request = pb.ExtractRequest(backbone=backbone, items=[pb.Item(data=item) for item in items])
    extract = channel.unary_unary("/headwater.v1.ExtractorService/Extract")
    if backbone not in ("tiny-image", "tiny-text"):
        assert code_of(
            channel, next(method for method in METHODS if method.name == "Extract"), [request.SerializeToString()]
        ) in BLAMELESS - {grpc.StatusCode.OK}
        return
    response = pb.ExtractResponse.FromString(extract(request.SerializeToString(), timeout=WAIT_S))
    assert len(response.outcomes) == len(items)
    for outcome in response.outcomes:
        assert outcome.WhichOneof("result") == "row" or outcome.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    rows = [outcome.row for outcome in response.outcomes if outcome.WhichOneof("result") == "row"]
    assert rows == list(range(len(rows)))
    assert len(response.embeddings) == 4 * response.dim * len(rows)


REFERENCES = st.one_of(st.sampled_from(["fixed", "fixed@1", "fixed@production", "fixed@2"]), st.text(max_size=300))
TARGETS = st.builds(
    lambda labels, values: heads.Target(labels=labels, values=values),
    st.lists(st.text(max_size=5), max_size=2),
    st.lists(st.floats(), max_size=2),
)


@GIVEN
@given(
    head=REFERENCES,
    backbone=st.sampled_from(["", "tiny-image", "tiny-text", "gone"]),
    items=st.lists(ITEMS, max_size=4),
    embeddings=st.one_of(st.binary(max_size=60), st.lists(st.floats(width=32), max_size=9).map(packed)),
    fingerprint=st.sampled_from(["", "f" * 32, "F"]),
    top=st.integers(0, 2**32 - 1),
)
def test_arbitrary_questions_to_a_head_never_break_the_server(channel: grpc.Channel, **fields: Any) -> None:
    items = [pb.Item(data=item) for item in fields.pop("items")]
    request = heads.PredictRequest(items=items, **fields)
    assert code_of(channel, METHOD_OF["Predict"], [request.SerializeToString()]) in BLAMELESS


@GIVEN
@given(
    name=st.one_of(st.just("new"), st.text(max_size=120)),
    kind=st.sampled_from(["", "single", "multi", "regression", "none"]),
    options=st.builds(heads.TrainingOptions, head=st.text(max_size=4), seed=st.integers(0, 2**32 - 1)),
    items=st.lists(ITEMS, max_size=3),
    embeddings=st.one_of(st.binary(max_size=60), st.lists(st.floats(width=32), max_size=9).map(packed)),
    targets=st.lists(TARGETS, max_size=3),
    dump=st.sampled_from(["", "x", "..", "/etc"]),
)
def test_arbitrary_orders_never_break_the_server(
    channel: grpc.Channel, name: str, kind: str, options: Any, dump: str, items: list[bytes], **examples: Any
) -> None:
    order = heads.TrainingOrder(name=name, backbone="tiny-image", kind=kind, options=options, dump=dump, detach=True)
    given = heads.Examples(items=[pb.Item(data=item) for item in items], **examples)
    messages = [heads.TrainHeadRequest(order=order), heads.TrainHeadRequest(examples=given)]
    assert code_of(channel, METHOD_OF["TrainHead"], [one.SerializeToString() for one in messages]) in BLAMELESS
    for job in heads.ListJobsResponse.FromString(channel.unary_unary(name_of("ListJobs"))(b"")).jobs:
        cancelled = heads.CancelJobRequest(id=job.id).SerializeToString()
        channel.unary_unary(name_of("CancelJob"))(cancelled, timeout=WAIT_S)


TASKS = st.one_of(st.sampled_from(["pictures", "texts"]), st.text(max_size=120))
LABELS = st.lists(st.one_of(st.sampled_from(["a", "b"]), st.text(max_size=20)), max_size=4)
VECTORS = st.one_of(st.binary(max_size=60), st.lists(st.floats(width=32), max_size=12).map(packed))
SETTINGS = st.builds(
    lambda method, rate, **rest: taught.TaskSettings(
        method=method, **({} if rate is None else {"false_alarm_rate": rate}), **rest
    ),
    method=st.sampled_from(["auto", "class-mean", "knn", "cached-keys", "ridge", "logistic", "kernel-logistic", "no"]),
    rate=st.one_of(st.none(), st.floats()),
    zero_shot=st.booleans(),
    texts=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
OPTIONS = st.builds(
    taught.ClassifyOptions,
    top=st.integers(0, 120),
    neighbours=st.integers(0, 120),
    with_items=st.booleans(),
    false_alarm_rate=st.floats(),
)
ITEM_LISTS = st.lists(ITEMS.map(lambda data: pb.Item(data=data)), max_size=4)


@pytest.fixture(scope="module")
def fingerprints(channel: grpc.Channel) -> list[str]:
    """Those of the backbones of two tasks, which are made here, and no one's."""
    found = []
    for task, backbone in (("pictures", "tiny-image"), ("texts", "tiny-text")):
        request = taught.CreateTaskRequest(name=task, backbone=backbone, keep_items=True)
        call = channel.unary_unary(name_of("CreateTask"))
        found.append(taught.Task.FromString(call(request.SerializeToString(), timeout=WAIT_S)).fingerprint)
    return [*found, "f", ""]


@st.composite
def few_shot_calls(draw: st.DrawFn, fingerprints: list[str]) -> tuple[str, list[Any]]:
    """Return a method and messages to it that are not too far from good ones."""
    task, of = draw(TASKS), draw(st.sampled_from(fingerprints))
    items, vectors = draw(ITEM_LISTS), draw(VECTORS)
    labels, ids = draw(LABELS), draw(st.lists(st.text(max_size=5), max_size=3))
    if draw(st.booleans()):  # one that fits together, but for what its items and numbers are
        task, of, n_rows, ids = "texts", fingerprints[1], draw(st.integers(0, 4)), []
        as_items = draw(st.booleans())
        items = [pb.Item(data=draw(ITEMS)) for _ in range(n_rows)] if as_items else []
        vectors = (
            b"" if as_items else packed(draw(st.lists(st.floats(width=32), min_size=4 * n_rows, max_size=4 * n_rows)))
        )
        labels = [draw(st.sampled_from(["a", "b", "c"])) for _ in range(n_rows)]
    n, text, version = draw(st.integers(0, 20_000)), draw(st.text(max_size=20)), draw(st.integers(0, 2**64 - 1))
    settings_, options = draw(SETTINGS), draw(OPTIONS)
    examples = taught.NewExamples(items=items, embeddings=vectors, fingerprint=of, labels=labels, ids=ids)
    relabelled = dict(zip(ids, labels, strict=False))
    good = {"task": "texts"}
    requests = {
        "CreateTask": [taught.CreateTaskRequest(name=text, backbone="tiny-text", labels=labels, settings=settings_)],
        "UpdateTask": [taught.UpdateTaskRequest(settings=settings_, **good)],
        "AddExamples": [taught.AddExamplesRequest(task=task, examples=examples)],
        "RemoveExamples": [taught.RemoveExamplesRequest(task=task, ids=ids, if_version=version)],
        "RelabelExamples": [taught.RelabelExamplesRequest(task=task, labels=relabelled)],
        "RenameClass": [taught.RenameClassRequest(task=task, label=draw(st.sampled_from(["a", "b"])), to=text)],
        "MergeClasses": [taught.MergeClassesRequest(task=task, labels=labels, into=text)],
        "UndoChanges": [taught.UndoChangesRequest(task=task, n=n % 4)],
        "ListChanges": [taught.ListChangesRequest(task=task, n=n)],
        "ListExamples": [taught.ListExamplesRequest(task=task, page_size=n % 2000, page_token=text, with_items=True)],
        "Classify": [
            taught.ClassifyRequest(task=task, items=items, embeddings=vectors, fingerprint=of, options=options)
        ],
        "ClassifyStream": [taught.ClassifyStreamRequest(task=task, ids=range(n % 5), items=items, options=options)],
        "ClassifyWithExamples": [
            taught.ClassifyWithExamplesRequest(
                backbone="tiny-text", examples=examples, items=items, settings=settings_, options=options
            )
        ],
        "Suggest": [taught.SuggestRequest(task=task, n=n % 1100, items=items, embeddings=vectors, fingerprint=of)],
        "Audit": [taught.AuditRequest(task=task, n=n % 1100)],
        "ImportTask": [
            taught.ImportTaskRequest(order=taught.ImportOrder(name=text)),
            taught.ImportTaskRequest(data=vectors),
        ],
    }
    method = draw(st.sampled_from(sorted(requests)))
    return method, requests[method]


def test_arbitrary_calls_of_tasks_never_break_the_server(channel: grpc.Channel, fingerprints: list[str]) -> None:
    @settings(GIVEN, max_examples=300)
    @given(few_shot_calls(fingerprints))
    def check(call: tuple[str, list[Any]]) -> None:
        method, messages = call
        found = code_of(channel, METHOD_OF[method], [one.SerializeToString() for one in messages])
        assert found in BLAMELESS | {grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.ABORTED}, (method, messages)

    check()


def test_rubbish_from_many_leaves_a_neighbour_unharmed(address: str, channel: grpc.Channel) -> None:
    def rubbish(i: int) -> grpc.StatusCode:
        return code_of(channel, METHODS[i % len(METHODS)], [bytes([0xFF, i % 251]) * (1 + i)])

    with ThreadPoolExecutor(8) as pool, Client(address, backbone="tiny-image") as client:
        running = [pool.submit(rubbish, i) for i in range(200)]
        for i in range(50):
            assert client.extract([png(flat(i))]).tolist() == [[i, 0, 0]]
        assert {one.result(WAIT_S) for one in running} <= BLAMELESS
