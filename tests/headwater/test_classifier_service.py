"""`ClassifierService` over a real port: predictions, facts, aliases, refusals. Training has tests of its own."""

import itertools
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from classifiers import persist
from extractor import Extractor
from headwater import order
from headwater.errors import HeadNotFound
from headwater.keys import Role, add
from headwater.server import ServerSettings
from headwater.service.heads import Heads
from headwater.service.sight import Sight, SightSettings
from headwater.v1 import classifier_pb2 as pb
from headwater.v1 import classifier_pb2_grpc
from headwater.v1.extractor_pb2 import ExtractRequest, Item
from headwater.v1.extractor_pb2_grpc import ExtractorServiceStub
from tests.heads import COLOURS, coloured, keep
from tests.inprocess import in_this_process
from tests.tiny import flat, png

NAME = "tiny-image"
Stub = classifier_pb2_grpc.ClassifierServiceStub


@pytest.fixture(scope="module")
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("heads-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fingerprint(extractor: Extractor) -> str:
    return extractor.fingerprint


@pytest.fixture(scope="module")
def channel(extractor: Extractor, home: Path) -> Iterator[grpc.Channel]:
    with in_this_process({NAME: extractor}) as server:
        options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(server.address, options) as one:
            yield one


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return Stub(channel)


def refused(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str, str]:
    """Return code, reason and message of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    error = caught.value
    return error.code(), dict(error.trailing_metadata()).get("headwater-reason", ""), error.details()


def ask(stub: Any, head: str, *items: bytes, **rest: Any) -> pb.PredictResponse:
    return stub.Predict(pb.PredictRequest(head=head, items=[Item(data=one) for one in items], **rest), timeout=20)


def test_items_get_labels_and_each_its_own_error(stub: Any, fingerprint: str) -> None:
    keep("colours", fingerprint)
    response = ask(stub, "colours", png(flat(200, 0, 0)), b"no image", coloured(2, 7), b"", top=2)
    assert (response.head, response.kind, response.fingerprint) == ("colours@1", "single", fingerprint)
    red, broken, blue, empty = response.predictions
    assert [one.label for one in red.ranking] == ["red", "green"]
    assert red.ranking[0].probability == pytest.approx(red.score) == pytest.approx(1, abs=1e-6)
    assert not red.unknown
    assert blue.ranking[0].label == "blue"
    assert (broken.error.reason, empty.error.reason) == ("UndecodableItem", "EmptyItem")
    assert not broken.ranking
    assert response.times.queue_ms > 0
    assert not response.HasField("rejection")
    assert not ask(stub, "colours").predictions
    assert len(ask(stub, "colours", png(flat(1)), top=100).predictions[0].ranking) == 3


def test_embeddings_need_no_backbone_but_their_fingerprint(stub: Any) -> None:
    keep("elsewhere", "f" * 32, backbone="not-served")
    X = np.array([[1, 2, 300], [np.nan, 0, 0], [300, 2, 1], [0, np.inf, 0]], "<f4")
    request = pb.PredictRequest(head="elsewhere", embeddings=X.tobytes(), fingerprint="f" * 32)
    blue, nan, red, infinite = stub.Predict(request).predictions
    assert (blue.ranking[0].label, red.ranking[0].label) == ("blue", "red")
    assert nan.error.reason == infinite.error.reason == "UndecodableItem"
    code, reason, message = refused(
        stub.Predict, pb.PredictRequest(head="elsewhere", embeddings=X.tobytes(), fingerprint="e" * 32)
    )
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BackboneChanged")
    assert "f" * 32 in message
    assert "e" * 32 in message
    for wrong in (
        pb.PredictRequest(head="elsewhere", embeddings=X.tobytes()),
        pb.PredictRequest(head="elsewhere", embeddings=X.tobytes()[:-4], fingerprint="f" * 32),
        pb.PredictRequest(head="elsewhere", embeddings=X.tobytes(), fingerprint="f" * 32, items=[Item(data=b"x")]),
        pb.PredictRequest(head="elsewhere", top=101),
    ):
        assert refused(stub.Predict, wrong)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "RequestInvalid")
    request = pb.PredictRequest(head="elsewhere", items=[Item(data=b"x")])
    assert refused(stub.Predict, request)[:2] == (grpc.StatusCode.NOT_FOUND, "BackboneNotFound")


def test_a_head_of_another_fingerprint_is_refused_with_both_named(stub: Any, fingerprint: str) -> None:
    keep("old", "a" * 32)
    code, reason, message = refused(stub.Predict, pb.PredictRequest(head="old", items=[Item(data=png(flat(1)))]))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BackboneChanged")
    assert "a" * 32 in message
    assert fingerprint in message


def test_one_says_unknown_several_labels_stand_alone_and_numbers_are_values(stub: Any, fingerprint: str) -> None:
    keep("careful", fingerprint, threshold=0.9)
    keep("several", fingerprint, kind="multi")
    keep("numbers", fingerprint, kind="regression")
    X = np.array([[300, 0, 0], [100, 100, 99]], "<f4").tobytes()

    def predicted(head: str) -> pb.PredictResponse:
        return stub.Predict(pb.PredictRequest(head=head, embeddings=X, fingerprint=fingerprint))

    careful = predicted("careful")
    assert [one.unknown for one in careful.predictions] == [False, True]
    assert (careful.rejection.score, careful.rejection.threshold) == ("confidence", 0.9)
    assert careful.predictions[1].score < 0.9
    assert careful.predictions[1].ranking[0].label == "red"
    red, all_three = predicted("several").predictions
    assert [one.label for one in red.ranking] == ["red"]
    assert [one.probability >= 0.47 for one in all_three.ranking] == [True]
    assert predicted("numbers").predictions[0].values == pytest.approx([20, -10, -10])
    assert not predicted("numbers").predictions[0].ranking


def test_too_many_items_are_refused_as_a_whole(stub: Any, fingerprint: str) -> None:
    keep("colours", fingerprint)
    request = pb.PredictRequest(head="colours", items=[Item(data=b"x")] * 1025)
    code, reason, message = refused(stub.Predict, request)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RequestTooLarge")
    assert "1,025 items, the limit is 1,024" in message
    X = np.zeros((1025, 3), "<f4").tobytes()
    request = pb.PredictRequest(head="colours", embeddings=X, fingerprint=fingerprint)
    assert refused(stub.Predict, request)[1] == "RequestTooLarge"
    many = pb.PredictRequest(head="colours", embeddings=bytes(60 << 20), fingerprint="f" * 32)  # 5 million short rows
    assert refused(stub.Predict, many)[1] == "RequestTooLarge"


@pytest.mark.parametrize("reference", ["../colours", "colours/1", "", "gone", "colours@999", "colours@old", "x" * 3000])
def test_a_path_or_another_name_finds_nothing(stub: Any, fingerprint: str, reference: str) -> None:
    keep("colours", fingerprint)
    for call, request in (
        (stub.Predict, pb.PredictRequest(head=reference)),
        (stub.GetHead, pb.GetHeadRequest(head=reference)),
        (stub.ActivateHead, pb.ActivateHeadRequest(head=reference)),
        (stub.DeleteHead, pb.DeleteHeadRequest(head=reference)),
    ):
        code, reason, message = refused(call, request)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "HeadNotFound")
        assert len(message) < 1000
    path = pb.ActivateHeadRequest(head="colours@1", alias="../x")
    assert refused(stub.ActivateHead, path)[:2] == (grpc.StatusCode.NOT_FOUND, "HeadNotFound")


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("planted"),))


FORGED: dict[str, dict[str, Any]] = {
    "a wrong dim": {"dim": 4},
    "a label too many": {"classes": [*COLOURS, "more"]},
    "a scale that is a word": {"preparation": {"transformation": "UN", "scale": "large"}},
    "a metric beyond all numbers": {"metrics": {"cv_accuracy": 10**400}, "layers": 10**400},
    "a newer format": {"format": 99},
}


def spoil(kind: str, folder: Path) -> None:
    facts = json.loads((folder / "head.json").read_bytes())
    if kind == "a pickle for weights":
        (folder / "weight_0.npy").write_bytes(pickle.dumps(Planted()))
    elif kind == "a pickle whose hash fits":
        import hashlib

        content = pickle.dumps(Planted())
        (folder / "weight_0.npy").write_bytes(content)
        facts["files"]["weight_0.npy"] = hashlib.sha256(content).hexdigest()
    elif kind == "a changed weight":
        content = bytearray((folder / "weight_0.npy").read_bytes())
        content[-1] ^= 1
        (folder / "weight_0.npy").write_bytes(content)
    elif kind == "a folder for an array":
        (folder / "center.npy").unlink()
        (folder / "center.npy").mkdir()
    else:
        facts |= FORGED[kind]
    (folder / "head.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "kind",
    [
        "a pickle for weights",
        "a pickle whose hash fits",
        "a changed weight",
        "a folder for an array",
        *FORGED,
    ],
)
def test_a_broken_head_is_an_error_for_its_callers_only(
    stub: Any, fingerprint: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep("colours", fingerprint)
    version = keep(f"broken-{kind.replace(' ', '-')}", fingerprint)
    item = png(flat(200))
    assert ask(stub, version.name, item).predictions[0].ranking[0].label == "red"
    time.sleep(0.01)  # a clock's tick, so that the file's time is another
    spoil(kind, version.folder)
    for call, request in (
        (stub.Predict, pb.PredictRequest(head=version.name, items=[Item(data=item)])),
        (stub.GetHead, pb.GetHeadRequest(head=version.name)),
        (stub.ActivateHead, pb.ActivateHeadRequest(head=str(version), alias="other")),
    ):
        code, reason, message = refused(call, request)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HeadInvalid")
        assert str(version.folder.parents[1]) not in message
    assert ask(stub, "colours", item).predictions[0].ranking[0].label == "red"
    listed = {head.name: head for head in stub.ListHeads(pb.ListHeadsRequest()).heads}
    assert set(listed) >= {"colours", version.name}
    assert str(version.folder.parents[1]) not in listed[version.name].versions[0].error.message
    assert not (tmp_path / "planted").exists()
    stub.DeleteHead(pb.DeleteHeadRequest(head=version.name))


def test_heads_are_listed_described_activated_and_deleted(stub: Any, fingerprint: str, home: Path) -> None:
    keep("one", fingerprint, threshold=0.5)
    keep("one", fingerprint, labels=("a", "b", "c"), activate=False)
    (home / "heads" / "one" / "2" / "head.json").rename(home / "heads" / "one" / "2" / "kept")
    (home / "heads" / "one" / "2" / "head.json").write_text("{}")
    listed = {head.name: head for head in stub.ListHeads(pb.ListHeadsRequest()).heads}["one"]
    assert [version.number for version in listed.versions] == [1, 2]
    assert dict(listed.aliases) == {"production": 1}
    assert listed.versions[1].error.reason == "HeadInvalid"
    assert (listed.versions[0].n_labels, list(listed.versions[0].labels)) == (3, [])
    (home / "heads" / "one" / "2" / "kept").replace(home / "heads" / "one" / "2" / "head.json")
    described = stub.GetHead(pb.GetHeadRequest(head="one"))
    assert (described.name, described.number, list(described.labels)) == ("one", 1, list(COLOURS))
    assert (described.backbone, described.fingerprint, described.dim) == (NAME, fingerprint, 3)
    assert described.rejection.rule == "by hand"

    done = stub.ActivateHead(pb.ActivateHeadRequest(head="one@2"))
    assert (done.version, done.previous) == ("one@2", "one@1")
    assert ask(stub, "one", png(flat(200))).predictions[0].ranking[0].label == "a"
    done = stub.ActivateHead(pb.ActivateHeadRequest(head="one@1", alias="canary"))
    assert (done.version, done.previous) == ("one@1", "")
    assert ask(stub, "one@canary", png(flat(200))).head == "one@1"
    code, reason, _ = refused(stub.DeleteHead, pb.DeleteHeadRequest(head="one@2"))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HeadInUse")
    stub.ActivateHead(pb.ActivateHeadRequest(head="one@1"))
    stub.DeleteHead(pb.DeleteHeadRequest(head="one@2"))
    assert refused(stub.Predict, pb.PredictRequest(head="one@2"))[0] is grpc.StatusCode.NOT_FOUND
    stub.DeleteHead(pb.DeleteHeadRequest(head="one"))
    assert refused(stub.GetHead, pb.GetHeadRequest(head="one"))[0] is grpc.StatusCode.NOT_FOUND


def test_an_alias_moves_while_eight_threads_predict_and_none_meets_a_gap(stub: Any, fingerprint: str) -> None:
    keep("moving", fingerprint, labels=("one", "b", "c"))
    keep("moving", fingerprint, labels=("two", "b", "c"))
    stop, answers, errors = threading.Event(), [], []

    def predict(seed: int) -> None:
        while not stop.is_set():
            try:
                response = ask(stub, "moving", png(flat(200 + seed)), top=1)
                answers.append((response.head, response.predictions[0].ranking[0].label))
            except grpc.RpcError as error:
                errors.append(error)

    threads = [threading.Thread(target=predict, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for number in itertools.islice(itertools.cycle((1, 2)), 30):
        stub.ActivateHead(pb.ActivateHeadRequest(head=f"moving@{number}"))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert set(answers) == {("moving@1", "one"), ("moving@2", "two")}


def test_a_head_that_loads_slowly_holds_up_only_those_who_ask_for_it(
    channel: grpc.Channel, stub: Any, fingerprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("quick", fingerprint)
    keep("slow", fingerprint)
    ask(stub, "quick", png(flat(1)))
    go_on, load = threading.Event(), persist.load_head

    def slowly(folder: Path) -> Any:
        assert go_on.wait(20)
        return load(folder)

    monkeypatch.setattr(persist, "load_head", slowly)
    waiting = [stub.Predict.future(pb.PredictRequest(head="slow"), timeout=20) for _ in range(100)]
    large = png(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))  # its bytes are hashed in a thread
    for _ in range(3):
        assert ask(stub, "quick", png(flat(200))).predictions[0].ranking[0].label == "red"
        request = ExtractRequest(backbone=NAME, items=[Item(data=large)])
        assert not ExtractorServiceStub(channel).Extract(request, timeout=10).outcomes[0].HasField("error")
    waiting[0].cancel()
    go_on.set()
    assert {call.result().head for call in waiting[1:]} == {"slow@1"}


def test_what_is_listed_is_read_once(stub: Any, fingerprint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = keep("listed", fingerprint)
    read: list[Path] = []
    load = persist.load_manifest
    monkeypatch.setattr(persist, "load_manifest", lambda folder: read.append(folder) or load(folder))

    def listed() -> pb.HeadVersion:
        heads = {head.name: head for head in stub.ListHeads(pb.ListHeadsRequest()).heads}
        return heads["listed"].versions[0]

    assert listed() == listed()
    assert read.count(version.folder) == 1
    facts = json.loads((version.folder / "head.json").read_bytes())
    (version.folder / "head.json").write_text(json.dumps(facts | {"backbone": "another"}))
    assert listed().backbone == "another"


def test_heads_that_were_used_last_stay_in_memory(home: Path) -> None:
    for name in ("a1", "a2", "a3"):
        keep(name, "f" * 32)
    heads = Heads(max_heads=2)
    first = heads.get("a1")
    assert heads.get("a1") is first
    heads.get("a2")
    heads.get("a1")
    heads.get("a3")
    assert heads.n_loaded == 2
    assert heads.get("a1") is first
    keep("a1", "e" * 32)
    assert heads.get("a1").manifest.fingerprint == "e" * 32
    assert heads.get("a1@1") is first
    with pytest.raises(HeadNotFound):
        heads.get("a4")


def test_without_scikit_learn_the_line_that_installs_it_is_told(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "NEEDED", "no-such-package")
    for call, request in (
        (stub.Predict, pb.PredictRequest(head="colours")),
        (stub.ListHeads, pb.ListHeadsRequest()),
        (lambda one, timeout: list(stub.TrainHead(iter([one]), timeout=timeout)), train("x")),
    ):
        code, reason, message = refused(call, request)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RuntimeMissing")
        assert "pip install 'headwater[classifiers]'" in message


def train(name: str) -> pb.TrainHeadRequest:
    return pb.TrainHeadRequest(order=pb.TrainingOrder(name=name))


def test_roles_open_what_they_are_for(tiny_image: Path, home: Path, fingerprint: str, tmp_path: Path) -> None:
    keep("colours", fingerprint)
    path = tmp_path / "keys.json"
    keys = {role: add(path, role.value, [role], items_per_s=1, burst=64) for role in Role}
    opened: dict[Role, set[str]] = {role: set() for role in Role}
    requests = {
        "Predict": pb.PredictRequest(head="colours"),
        "ListHeads": pb.ListHeadsRequest(),
        "GetHead": pb.GetHeadRequest(head="colours"),
        "ListJobs": pb.ListJobsRequest(),
        "ActivateHead": pb.ActivateHeadRequest(head="colours@1"),
        "TrainHead": train("new"),
    }
    with (
        in_this_process({NAME: Extractor.load(tiny_image)}, ServerSettings(port=0, keys=path)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub: Any = Stub(channel)
        for role, key in keys.items():
            bearer = [("authorization", f"Bearer {key}")]
            for method, request in requests.items():
                try:
                    call = getattr(stub, method)
                    list(call(iter([request]), metadata=bearer)) if method == "TrainHead" else call(
                        request, metadata=bearer
                    )
                    opened[role].add(method)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # an order without examples
                        opened[role].add(method)
        classify = [("authorization", f"Bearer {keys[Role.CLASSIFY]}")]
        many = pb.PredictRequest(head="colours", items=[Item(data=png(flat(1)))] * 65)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(many, metadata=classify)
        assert dict(caught.value.trailing_metadata())["headwater-reason"] == "RateExceeded"
    assert opened == {
        Role.EXTRACT: set(),
        Role.CLASSIFY: {"Predict", "ListHeads", "GetHead"},
        Role.TEACH: {"ListHeads", "GetHead", "ListJobs", "ActivateHead", "TrainHead"},
        Role.ADMIN: {"ListJobs"},
    }


def test_predictions_are_counted(tiny_image: Path, home: Path, fingerprint: str) -> None:
    from urllib.request import ProxyHandler, build_opener

    keep("counted", fingerprint, threshold=0.9)
    with (
        Sight.opened(SightSettings(metrics_port=0)) as sight,
        in_this_process({NAME: Extractor.load(tiny_image)}, sight=sight) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        ask(Stub(channel), "counted", png(flat(250)), png(flat(251)), png(flat(5, 5, 5)), b"")
        text = build_opener(ProxyHandler({})).open(sight.metrics_url).read().decode()
    for outcome, number in (("known", 2), ("unknown", 1), ("error", 1)):
        assert f'headwater_predictions_total{{head="counted",outcome="{outcome}"}} {number}.0' in text
    assert 'headwater_requests_total{code="OK",method="Predict"} 1.0' in text
