"""Training jobs over a real port: whoever leaves, cancels, kills or stops, there is a whole head or none."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from extractor import Extractor
from headwater import shelf
from headwater.convert import RequestLimits
from headwater.keys import Role, add
from headwater.order import Order, command, environment
from headwater.process import serving
from headwater.server import ServerSettings
from headwater.service import jobs, upload
from headwater.status import MAX_MESSAGE_BYTES
from headwater.v1 import classifier_pb2 as pb
from headwater.v1 import classifier_pb2_grpc
from headwater.v1.extractor_pb2 import Item
from tests.heads import COLOURS, examples, left_over
from tests.inprocess import in_this_process

NAME = "tiny-image"
WAIT_S = 180  # jobs are of the lowest priority: on a busy machine they wait
SLOW_ROWS, SLOW_LABELS = 20_000, 40  # seconds of training, of which a test waits for the first moments only
Stub = classifier_pb2_grpc.ClassifierServiceStub


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image)


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    (tmp_path / "dumps").mkdir()
    return tmp_path / "dumps"


@pytest.fixture
def stub(extractor: Extractor, dumps: Path) -> Iterator[Any]:
    settings = ServerSettings(port=0, dumps=dumps, limits=RequestLimits(max_items=64))
    with in_this_process({NAME: extractor}, settings) as server, channel_to(server.address) as channel:
        yield Stub(channel)


def channel_to(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [("grpc.enable_retries", 0)])


def order(name: str = "colours", **rest: Any) -> pb.TrainHeadRequest:
    return pb.TrainHeadRequest(order=pb.TrainingOrder(name=name, **rest))


def items(contents: list[bytes], labels: list[str]) -> pb.TrainHeadRequest:
    targets = [pb.Target(labels=[label]) for label in labels]
    return pb.TrainHeadRequest(examples=pb.Examples(items=[Item(data=one) for one in contents], targets=targets))


def rows(X: np.ndarray, labels: list[str]) -> pb.TrainHeadRequest:
    targets = [pb.Target(labels=[label]) for label in labels]
    return pb.TrainHeadRequest(examples=pb.Examples(embeddings=X.astype("<f4").tobytes(), targets=targets))


def slow() -> pb.TrainHeadRequest:
    X = np.random.default_rng(0).normal(size=(SLOW_ROWS, 3))
    return rows(X, [f"label {i % SLOW_LABELS}" for i in range(SLOW_ROWS)])


def begin_slow(stub: Any, fingerprint: str, name: str = "slow") -> str:
    """Begin a job that goes on for a while, leave it, and return its id once it trains."""
    call = stub.TrainHead(iter([order(name, fingerprint=fingerprint), slow()]))
    for event in call:
        if event.job.step:
            call.cancel()
            return event.job.id
    raise AssertionError("it ended before it had begun")


def last(events: Iterator[pb.JobEvent]) -> pb.Job:
    return list(events)[-1].job


def refused(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        found = call(request, timeout=WAIT_S)
        list(found)
    error = caught.value
    return error.code(), dict(error.trailing_metadata()).get("headwater-reason", ""), error.details()


def training_processes(home: Path) -> list[int]:
    """Return the processes that run a job of a home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"headwater.job" in command and str(home).encode() in command:
            found.append(int(folder.name))
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_items_become_a_head_that_answers_and_a_bad_one_is_told(stub: Any, home: Path) -> None:
    contents, labels = examples(18)
    messages = [order(), items(contents[:9], labels[:9]), items([*contents[9:], b"no image"], [*labels[9:], "red"])]
    states = list(stub.TrainHead(iter(messages), timeout=WAIT_S))
    job = states[-1].job
    assert (job.state, job.version) == ("done", "colours@1"), job.error.message
    assert (job.examples, job.failed_items) == (18, 1)
    assert job.failures[0].position == 18
    assert job.failures[0].error.reason == "UndecodableItem"
    assert job.metrics["cv_accuracy"] == 1.0
    seen = [event.job.state for event in states]
    assert seen == sorted(seen, key=["embedding", "queued", "training", "done"].index)
    assert {event.job.id for event in states} == {job.id}
    assert any("held-out folds" in event.job.step for event in states)
    assert job.ended_at.ToSeconds() >= job.created_at.ToSeconds() > 0
    response = stub.Predict(pb.PredictRequest(head="colours", items=[Item(data=one) for one in examples(3)[0]]))
    assert [one.ranking[0].label for one in response.predictions] == list(COLOURS)
    described = stub.GetHead(pb.GetHeadRequest(head="colours"))
    assert (described.n_items, described.metrics["cv_accuracy"]) == (18, 1.0)
    assert stub.GetJob(pb.GetJobRequest(id=job.id)) == job
    assert [one.id for one in stub.ListJobs(pb.ListJobsRequest()).jobs] == [job.id]
    assert last(stub.WatchJob(pb.WatchJobRequest(id=job.id))) == job
    assert stub.CancelJob(pb.CancelJobRequest(id=job.id)) == job  # it has ended, and stays as it is
    assert not left_over(home)


def test_a_caller_that_leaves_before_the_end_leaves_nothing(stub: Any, home: Path) -> None:
    contents, labels = examples(6)

    def messages(accepted: list[Any]) -> Iterator[pb.TrainHeadRequest]:
        yield order()
        yield items(contents, labels)
        until(lambda: accepted)
        time.sleep(0.1)

    for leave in (lambda call: call.cancel(), None):
        accepted: list[Any] = []
        call = stub.TrainHead(messages(accepted), timeout=None if leave else 0.5)
        try:
            for event in call:
                if event.job.examples == 6:
                    assert left_over(home)
                    accepted = [] if leave is None else accepted
                    if leave is not None:
                        leave(call)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
        accepted.append(True)
        until(lambda: not left_over(home))
        assert not stub.ListJobs(pb.ListJobsRequest()).jobs
    time.sleep(2 * upload.GRACE_S)
    assert not stub.ListHeads(pb.ListHeadsRequest()).heads
    assert not training_processes(home)


def test_a_job_goes_on_without_its_caller_and_is_cancelled_from_elsewhere(
    stub: Any, extractor: Extractor, home: Path
) -> None:
    identity = begin_slow(stub, extractor.fingerprint)
    watching = stub.WatchJob(pb.WatchJobRequest(id=identity), timeout=WAIT_S)
    assert next(watching).job.state == "training"
    (process,) = training_processes(home)
    assert os.sched_getscheduler(process) == os.SCHED_IDLE
    assert os.getpriority(os.PRIO_PROCESS, process) == 19
    waits = stub.TrainHead(iter([order("next", fingerprint=extractor.fingerprint), slow()]))
    queued = next(event.job for event in waits if event.job.state == "queued")
    waits.cancel()
    assert stub.CancelJob(pb.CancelJobRequest(id=queued.id)).state == "cancelled"
    done = stub.CancelJob(pb.CancelJobRequest(id=identity))
    assert (done.state, done.error.reason) == ("cancelled", "JobCancelled")
    assert "cancelled the job" in done.error.message
    assert last(watching).state == "cancelled"
    assert not training_processes(home)
    assert not left_over(home)
    assert not stub.ListHeads(pb.ListHeadsRequest()).heads


def test_a_job_is_cancelled_while_its_examples_come_in(stub: Any, home: Path) -> None:
    ended: list[bool] = []

    def messages() -> Iterator[pb.TrainHeadRequest]:
        yield order()
        until(lambda: ended)

    call = stub.TrainHead(messages())
    identity = next(call).job.id
    assert stub.CancelJob(pb.CancelJobRequest(id=identity)).state == "cancelled"
    ended.append(True)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert dict(caught.value.trailing_metadata())["headwater-reason"] == "JobCancelled"
    assert not left_over(home)


def test_a_process_that_is_killed_leaves_no_half_head_and_the_job_can_be_begun_again(
    stub: Any, extractor: Extractor, home: Path
) -> None:
    identity = begin_slow(stub, extractor.fingerprint, "colours")
    for process in training_processes(home):
        os.kill(process, signal.SIGKILL)
    job = last(stub.WatchJob(pb.WatchJobRequest(id=identity), timeout=WAIT_S))
    assert (job.state, job.error.reason) == ("failed", "JobFailed")
    assert "signal 9" in job.error.message
    assert not stub.ListHeads(pb.ListHeadsRequest()).heads
    assert not left_over(home)
    job = last(stub.TrainHead(iter([order(), items(*examples(9))]), timeout=WAIT_S))
    assert (job.state, job.version) == ("done", "colours@1")


def test_a_job_that_finds_the_disk_full_says_so_and_the_server_goes_on(tiny_image: Path, home: Path) -> None:
    with Extractor.load(tiny_image) as extractor:
        fingerprint = extractor.fingerprint
    with serving(str(tiny_image)) as server, channel_to(server.target) as channel:
        stub: Any = Stub(channel)
        hard = resource.RLIM_INFINITY
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1200, hard))  # as a disk that fills up
        code, reason, _ = refused(stub.TrainHead, iter([order(fingerprint=fingerprint), slow()]))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HeadsNotWritable")
        few = rows(np.random.default_rng(0).normal(size=(30, 3)), ["a", "b"] * 15)
        job = last(stub.TrainHead(iter([order(fingerprint=fingerprint), few]), timeout=WAIT_S))
        assert (job.state, job.error.reason) == ("failed", "HeadsNotWritable")
        assert str(home) not in job.error.message
        assert not left_over(home)
        assert not stub.ListHeads(pb.ListHeadsRequest()).heads
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        job = last(stub.TrainHead(iter([order(fingerprint=fingerprint), few]), timeout=WAIT_S))
        assert (job.state, job.version) == ("done", "colours@1"), job.error.message


def test_a_server_that_is_killed_takes_its_job_along_and_its_successor_sweeps(tiny_image: Path, home: Path) -> None:
    with serving(str(tiny_image)) as server, channel_to(server.target) as channel:
        with Extractor.load(tiny_image) as extractor:
            begin_slow(Stub(channel), extractor.fingerprint)
        assert training_processes(home)
        server.process.kill()
        server.process.wait(WAIT_S)
        until(lambda: not training_processes(home))
        assert left_over(home)
        with serving(str(tiny_image)) as successor, channel_to(successor.target) as other:
            assert not left_over(home)
            assert not Stub(other).ListHeads(pb.ListHeadsRequest()).heads


def test_a_server_that_stops_cancels_its_jobs_and_says_so(tiny_image: Path, home: Path) -> None:
    extractor = Extractor.load(tiny_image)
    with in_this_process({NAME: extractor}) as server, channel_to(server.address) as channel:
        stub: Any = Stub(channel)
        identity = begin_slow(stub, extractor.fingerprint)
        watching = stub.WatchJob(pb.WatchJobRequest(id=identity), timeout=WAIT_S)
        next(watching)
        sending = stub.TrainHead(_order_and_wait(server.thread.is_alive))
        next(sending)
        begun = time.monotonic()
        server.stop()
        job = last(watching)
        assert (job.state, job.error.reason) == ("cancelled", "Closed")
        assert "the server is stopping" in job.error.message
        with pytest.raises(grpc.RpcError) as caught:
            list(sending)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        server.join()
        assert time.monotonic() - begun < 10
    assert not training_processes(home)
    assert not left_over(home)


def test_a_server_that_starts_beside_another_leaves_its_jobs_alone(tiny_image: Path, stub: Any, home: Path) -> None:
    stop: list[bool] = []
    sending = stub.TrainHead(_order_and_wait(lambda: not stop), timeout=WAIT_S)
    next(sending)
    before = left_over(home)
    with in_this_process({NAME: Extractor.load(tiny_image)}):  # of the same process number, as in two containers
        assert left_over(home) == before != []
    sending.cancel()
    stop.append(True)
    until(lambda: not left_over(home))


def _order_and_wait(goes_on: Callable[[], bool]) -> Iterator[pb.TrainHeadRequest]:
    yield order("other")
    until(lambda: not goes_on())


def test_what_cannot_be_learnt_from_is_a_failed_job_that_says_why(stub: Any, home: Path) -> None:
    job = last(stub.TrainHead(iter([order(), items(examples(3)[0], ["red"] * 3)]), timeout=WAIT_S))
    assert (job.state, job.error.reason) == ("failed", "TooFewExamples")
    assert "1 class" in job.error.message
    assert not left_over(home)


X3 = np.ones((2, 3))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "RequestInvalid"),
        ([items([b"x"], ["red"])], "RequestInvalid"),
        ([order()], "RequestInvalid"),
        ([order(), order()], "RequestInvalid"),
        ([order(), items([b"x"], [])], "RequestInvalid"),
        ([order(), items([b"x"], [""])], "RequestInvalid"),
        ([order(), items([b"x"], ["x" * 201])], "RequestInvalid"),
        ([order(kind="regression"), items([b"x"], ["red"])], "InvalidOption"),
        ([order(kind="else")], "RequestInvalid"),
        ([order(options=pb.TrainingOptions(reject="soup"))], "InvalidOption"),
        ([order(options=pb.TrainingOptions(reject_rate=1))], "InvalidOption"),
        ([order(options=pb.TrainingOptions(reject_rate=float("nan")))], "InvalidOption"),
        ([order(), items([b"no image"], ["red"])], "RequestInvalid"),
        ([order(), items([b"x"] * 65, ["red"] * 65)], "RequestTooLarge"),
        ([order(), rows(np.ones((1, 4)), ["red"])], "RequestInvalid"),
        ([order(), rows(np.array([[1, 2, np.nan]]), ["red"])], "NotFinite"),
        ([order(), rows(X3, ["red"] * 2), rows(X3 * np.inf, ["red"] * 2)], "NotFinite"),
        ([order("../x")], "HeadNotFound"),
        ([order(backbone="gone")], "BackboneNotFound"),
        ([order(fingerprint="0" * 32)], "BackboneChanged"),
        ([order(dump="gone.parquet")], "DumpInvalid"),
    ],
)
def test_an_order_that_cannot_be_is_refused(stub: Any, home: Path, messages: list[Any], reason: str) -> None:
    code, found, message = refused(stub.TrainHead, iter(messages))
    if reason == "InvalidOption" and found == "RequestInvalid":  # training knows the choice, and its target is wrong
        return
    assert found == reason, message
    assert code is not grpc.StatusCode.INTERNAL
    assert not left_over(home)
    assert not training_processes(home)


def test_examples_jobs_and_patience_have_bounds(stub: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_EXAMPLES", 5)
    _, reason, message = refused(
        stub.TrainHead, iter([order(), rows(X3, ["a", "b"]), rows(np.ones((4, 3)), ["a"] * 4)])
    )
    assert (reason, "more than 5 examples" in message) == ("RequestTooLarge", True)
    monkeypatch.setattr(upload, "MAX_EXAMPLE_BYTES", 40)
    _, reason, message = refused(stub.TrainHead, iter([order(), rows(np.ones((4, 3)), ["a"] * 4)]))
    assert (reason, "48 bytes, the limit is 40" in message) == ("RequestTooLarge", True)
    monkeypatch.setattr(upload, "STALL_S", 0.3)
    stop: list[bool] = []
    stalling = stub.TrainHead(_order_and_wait(lambda: not stop))
    with pytest.raises(grpc.RpcError) as caught:
        list(stalling)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    monkeypatch.setattr(upload, "STALL_S", 60)
    monkeypatch.setattr(jobs, "MAX_OPEN", 1)
    holding = stub.TrainHead(_order_and_wait(lambda: not stop))
    next(holding)
    code, reason, message = refused(stub.TrainHead, iter([order()]))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "JobsFull")
    assert "1 jobs are open, the limit is 1" in message
    holding.cancel()
    stop.append(True)
    until(lambda: not left_over(home))


def write_dump(path: Path, fingerprint: str, X: np.ndarray, labels: list[Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"embedding": pyarrow.array(list(X.astype("f4"))), "label": labels})
    parquet.write_table(table.replace_schema_metadata({"headwater.fingerprint": fingerprint}), path)


def test_a_dump_is_trained_on_and_no_path_leads_out(
    stub: Any, extractor: Extractor, dumps: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = [i % 3 for i in range(30)]
    X = rng.normal(size=(30, 3)) + 10 * np.eye(3)[labels]
    names = [COLOURS[i] for i in labels]
    (dumps / "good").mkdir()
    write_dump(dumps / "good" / "0.parquet", extractor.fingerprint, X[:20], names[:20])
    write_dump(dumps / "good" / "1.parquet", extractor.fingerprint, X[20:], names[20:])
    write_dump(dumps / "other.parquet", "0" * 32, X, names)
    write_dump(tmp_path / "outside.parquet", extractor.fingerprint, X, names)
    (dumps / "link.parquet").symlink_to(tmp_path / "outside.parquet")
    (dumps / "linked").mkdir()
    (dumps / "linked" / "0.parquet").symlink_to(tmp_path / "outside.parquet")
    (dumps / "broken.parquet").write_bytes(b"PAR1 no")
    (dumps / "empty").mkdir()
    outside = ("../outside.parquet", str(tmp_path / "outside.parquet"), "good/../../outside.parquet", "link.parquet")
    for path in (*outside, "linked", "broken.parquet", "empty", "gone", "\0"):
        code, reason, _ = refused(stub.TrainHead, iter([order(dump=path)]))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DumpInvalid"), path
    assert refused(stub.TrainHead, iter([order(dump="other.parquet")]))[1] == "BackboneChanged"
    assert refused(stub.TrainHead, iter([order(dump="good"), rows(X3, ["a", "b"])]))[1] == "RequestInvalid"
    job = last(stub.TrainHead(iter([order(dump="good")]), timeout=WAIT_S))
    assert (job.state, job.metrics["cv_accuracy"]) == ("done", 1.0), job.error.message


def test_a_job_is_its_owners_and_the_administrators(tiny_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = {
        "mine": add(path, "mine", [Role.TEACH]),
        "other": add(path, "other", [Role.TEACH]),
        "admin": add(path, "admin", [Role.ADMIN]),
    }
    metadata = {name: [("authorization", f"Bearer {key}")] for name, key in keys.items()}
    extractor = Extractor.load(tiny_image)
    settings = ServerSettings(port=0, keys=path)
    with in_this_process({NAME: extractor}, settings) as server, channel_to(server.address) as channel:
        stub: Any = Stub(channel)
        stop: list[bool] = []
        sending = stub.TrainHead(_order_and_wait(lambda: not stop), metadata=metadata["mine"])
        identity = next(sending).job.id
        for method, kind in (("GetJob", pb.GetJobRequest), ("CancelJob", pb.CancelJobRequest)):
            with pytest.raises(grpc.RpcError) as caught:
                getattr(stub, method)(kind(id=identity), metadata=metadata["other"])
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.WatchJob(pb.WatchJobRequest(id=identity), metadata=metadata["other"]))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        listed = {name: len(stub.ListJobs(pb.ListJobsRequest(), metadata=one).jobs) for name, one in metadata.items()}
        assert listed == {"mine": 1, "other": 0, "admin": 1}
        done = stub.CancelJob(pb.CancelJobRequest(id=identity), metadata=metadata["admin"])
        assert (done.state, "'admin' cancelled" in done.error.message) == ("cancelled", True)
        stop.append(True)


def test_a_caller_that_leaves_while_its_job_ends_keeps_no_place(
    stub: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        removing.set()
        go_on.wait(WAIT_S)
        unstage(folder)

    unstage = shelf.unstage
    monkeypatch.setattr(shelf, "unstage", slowly)
    call = stub.TrainHead(iter([order(), rows(np.array([[np.nan] * 3]), ["a"])]))
    assert removing.wait(WAIT_S)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    time.sleep(0.2)  # for the news to reach the server
    go_on.set()
    until(lambda: not left_over(home))
    monkeypatch.setattr(jobs, "MAX_OPEN", 1)
    assert refused(stub.TrainHead, iter([order()]))[1] == "RequestInvalid"


def test_a_job_that_fails_is_cancelled_meanwhile_and_ends(
    stub: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        removing.set()
        go_on.wait(WAIT_S)
        unstage(folder)

    unstage = shelf.unstage
    monkeypatch.setattr(shelf, "unstage", slowly)
    call = stub.TrainHead(iter([order(), rows(np.eye(3), ["a"] * 3)]), timeout=WAIT_S)
    identity = next(call).job.id
    assert removing.wait(WAIT_S)
    cancelling = stub.CancelJob.future(pb.CancelJobRequest(id=identity), timeout=WAIT_S)
    time.sleep(0.2)  # for it to reach the server
    go_on.set()
    assert cancelling.result().state == "failed"
    assert last(call).state == "failed"


def test_labels_have_a_bound_on_disk(stub: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_TARGET_BYTES", 1000)
    many = [pb.Target(labels=["x" * 200] * 10)]
    messages = [
        order(kind="multi"),
        pb.TrainHeadRequest(examples=pb.Examples(embeddings=bytes(12), targets=many)),
    ]
    _, reason, message = refused(stub.TrainHead, iter(messages))
    assert (reason, "the limit is 1,000" in message) == ("RequestTooLarge", True)
    until(lambda: not left_over(home))


def test_targets_are_counted_before_they_are_read(stub: Any) -> None:
    _, reason, message = refused(stub.TrainHead, iter([order(), items([b"x"], ["", ""])]))
    assert (reason, "1 examples and 2 targets" in message) == ("RequestInvalid", True)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (order("x" * 100_000), grpc.StatusCode.NOT_FOUND),
        (order(options=pb.TrainingOptions(head="x" * 100_000)), grpc.StatusCode.INVALID_ARGUMENT),
        (order(options=pb.TrainingOptions(reject="ü\n" * 100_000)), grpc.StatusCode.INVALID_ARGUMENT),
        (order(options=pb.TrainingOptions(class_weight="😀" * 100_000)), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_callers_long_words_do_not_cost_the_answer_its_code(stub: Any, message: Any, code: grpc.StatusCode) -> None:
    found, reason, details = refused(stub.TrainHead, iter([message]))
    assert (found, bool(reason)) == (code, True)
    assert len(details.encode()) <= MAX_MESSAGE_BYTES + 3


def test_a_dump_has_one_label_an_item(stub: Any, extractor: Extractor, dumps: Path) -> None:
    write_dump(dumps / "one.parquet", extractor.fingerprint, np.eye(3), ["ab", "ac", "bc"])
    for kind in ("multi", "regression"):
        code, reason, message = refused(stub.TrainHead, iter([order(kind=kind, dump="one.parquet")]))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RequestInvalid")
        assert "one label" in message


def test_a_dump_that_was_written_anew_while_its_job_waited_is_not_learnt_from(dumps: Path, tmp_path: Path) -> None:
    of = {"backbone": NAME, "fingerprint": "a" * 32, "dim": 3, "dump": str(dumps / "one.parquet")}
    for fingerprint, label, reason in (("b" * 32, "ab", "BackboneChanged"), ("a" * 32, "x" * 201, "DumpInvalid")):
        write_dump(dumps / "one.parquet", fingerprint, np.eye(3), [label] * 3)
        Order(name="h", **of).write(tmp_path)
        with subprocess.Popen(
            command(tmp_path), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        ) as process:
            assert process.stdout is not None
            told = json.loads(process.stdout.read())
        assert told["error"][0] == reason, told


def test_only_the_newest_state_is_told_to_one_who_reads_slowly() -> None:
    from datetime import UTC, datetime

    from headwater.heads import JobInfo

    async def main() -> list[int]:
        info = JobInfo(id="1", head="h", state="training", created_at=datetime.now(UTC))
        job = jobs.Job(Order(name="h", backbone="b", fingerprint="f", dim=3), "", Path(), info)
        seen = []
        async for state in job.states():
            seen.append(state.done)
            if state.done < 100:
                for done in range(1, 101):
                    job.set(done=done)
            else:
                job.set(state="done")
        return seen

    assert asyncio.run(main()) == [0, 100, 100]
