"""What the cache answers through a real server: the right embedding or an honest miss, and `cached` says which."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from extractor import Extractor
from extractor.cache.disk import DiskStore
from extractor.cache.memory import MemoryCache
from extractor.derive import derive
from extractor.errors import InferenceFailed, UndecodableItem
from extractor.outcome import Embedded
from headwater.process import ServerProcess, serving
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import in_this_process
from tests.runtimes import needs_bf16
from tests.tiny import encoded, flat, png, write_tiny_dense

BOUND = 64 << 20
WAIT_S = 20
SAME = 1e-6  # the tolerance of fp32
Answer = tuple[np.ndarray, list[bool]]


@pytest.fixture
def server(tiny_image: Path, tiny_text: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(
        str(tiny_image), str(tiny_text), "--cache", str(tmp_path / "cache"), "--cache-min-free-mib", "0"
    ) as one:
        yield one


class Calls:
    """Both calls, by bare messages, with `cache-control` in the metadata."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self.stub = extractor_pb2_grpc.ExtractorServiceStub(self.channel)

    def ask(self, how: str, items: Sequence[bytes], control: str | None = None, backbone: str = "tiny-image") -> Answer:
        """Return the embeddings, in the order of the items, and which were cached."""
        metadata = () if control is None else (("cache-control", control),)
        sent = [pb.Item(data=item) for item in items]
        if how == "Extract":
            response = self.stub.Extract(pb.ExtractRequest(backbone=backbone, items=sent), metadata=metadata)
            responses, ids = [response], [range(len(items))]
        else:
            request = pb.ExtractStreamRequest(backbone=backbone, ids=range(len(items)), items=sent)
            responses = list(self.stub.ExtractStream(iter([request]), metadata=metadata))
            ids = [one.ids for one in responses]
        dim, found = responses[0].dim, {}
        for numbers, response in zip(ids, responses, strict=True):
            matrix = np.frombuffer(response.embeddings, "<f4").reshape(-1, dim)
            for number, outcome in zip(numbers, response.outcomes, strict=True):
                assert not outcome.HasField("error"), outcome.error
                found[number] = matrix[outcome.row], outcome.cached
        return np.stack([found[i][0] for i in range(len(items))]), [found[i][1] for i in range(len(items))]


@pytest.fixture
def calls(server: ServerProcess) -> Iterator[Calls]:
    one = Calls(server.target)
    with one.channel:
        yield one


@pytest.mark.parametrize("how", ["Extract", "ExtractStream"])
def test_cache_control_changes_what_is_looked_up_and_stored_and_no_embedding(calls: Calls, how: str) -> None:
    items = [png(flat(red, 3, 5)) for red in range(4)]
    expected = np.array([(red, 3, 5) for red in range(4)], np.float32)

    def cached(control: str | None = None) -> set[bool]:
        X, flags = calls.ask(how, items, control)
        np.testing.assert_allclose(X, expected, atol=SAME, rtol=0)
        return set(flags)

    assert cached("no-store") == {False}
    assert cached("no-store") == {False}  # nothing was kept
    assert cached() == {False}
    assert cached() == {True}
    assert cached("no-cache") == {False}  # nothing is looked up
    assert cached("no-store") == {True}  # what was kept may answer
    assert cached("No-Cache, no-store") == {False}
    assert cached("max-age=0, private") == {True}  # others are ignored
    assert cached() == {True}


def test_directives_that_come_one_by_one_count_all(calls: Calls) -> None:
    def cached(*directives: str) -> bool:
        metadata = [("cache-control", one) for one in directives]
        return calls.stub.Extract(request, metadata=metadata).outcomes[0].cached

    request = pb.ExtractRequest(backbone="tiny-image", items=[pb.Item(data=png(flat(77)))])
    assert not cached("no-store", "private")
    assert not cached()
    assert not cached("no-cache", "no-store")
    assert cached()


def test_what_one_kind_of_call_has_computed_answers_the_other(calls: Calls) -> None:
    items = [png(flat(9, red, 5)) for red in range(4)]
    first, flags = calls.ask("Extract", items)
    second, others = calls.ask("ExtractStream", items)
    np.testing.assert_array_equal(first, second)
    assert (set(flags), set(others)) == ({False}, {True})


def test_an_item_twice_in_a_request_and_the_reply_says_cached_for_each(calls: Calls) -> None:
    one, two = png(flat(1)), png(flat(2))
    calls.ask("Extract", [one])
    X, cached = calls.ask("Extract", [one, two, one, two])
    assert X[:, 0].tolist() == [1, 2, 1, 2]
    assert cached == [True, False, True, False]


def test_two_images_of_one_size_are_two_items(calls: Calls) -> None:
    items = [encoded(Image.fromarray(flat(red)), "BMP") for red in range(200)]
    assert len({len(item) for item in items}) == 1
    for _ in range(2):
        X, _ = calls.ask("Extract", items)
        np.testing.assert_array_equal(X[:, 0], range(200))


def test_the_same_bytes_as_image_and_as_text(calls: Calls) -> None:
    both = encoded(Image.fromarray(flat(10, 20, 30, size=4)), "BMP", dpi=(1, 1))  # every byte is ASCII
    both.decode("ascii")
    for asked_before in (False, True):
        image, cached = calls.ask("Extract", [both])
        assert cached == [asked_before]
        np.testing.assert_array_equal(image, [(10, 20, 30)])
        text, cached = calls.ask("Extract", [both], backbone="tiny-text")
        assert cached == [asked_before]
        assert text.shape == (1, 4)


def test_a_restarted_server_answers_from_what_the_first_has_stored(tiny_image: Path, tmp_path: Path) -> None:
    items = [png(flat(red)) for red in range(50)]
    for life in range(2):
        with serving(str(tiny_image), "--cache", str(tmp_path), "--cache-min-free-mib", "0") as server:
            calls = Calls(server.target)
            with calls.channel:
                X, cached = calls.ask("Extract", items)
        np.testing.assert_array_equal(X[:, 0], range(50))
        assert set(cached) == {life == 1}


def test_memory_alone_is_a_cache_too(tiny_image: Path) -> None:
    items = [png(flat(red)) for red in range(50)]
    with serving(str(tiny_image), "--cache", "memory") as server:
        calls = Calls(server.target)
        with calls.channel:
            assert [set(calls.ask("Extract", items)[1]) for _ in range(2)] == [{False}, {True}]


# In one process, so that a test can choose what a session gives


class Far(MemoryCache):
    """Answers a look-up once 32 callers wait for theirs."""

    waits = True
    together = threading.Barrier(32)

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        self.together.wait(WAIT_S)
        return super().get_many(keys)


def test_callers_wait_for_a_far_cache_side_by_side(tiny_image: Path) -> None:
    extractor = Extractor.load(tiny_image, cache=Far(max_bytes=1 << 20))
    with in_this_process({"tiny-image": extractor}) as server, ThreadPoolExecutor(32) as callers:
        calls = Calls(server.address)
        with calls.channel:
            answers = list(callers.map(lambda red: calls.ask("Extract", [png(flat(red))])[0], range(32)))
    np.testing.assert_array_equal(np.concatenate(answers)[:, 0], range(32))


def extract(folder: Path, cache: Path, items: list[bytes]) -> tuple[np.ndarray, set[bool]]:
    with Extractor.load(folder, cache=str(cache)) as extractor:
        outcomes = extractor.extract_each(items)
    return np.stack([one.embedding for one in outcomes if one.embedding is not None]), {one.cached for one in outcomes}


@needs_bf16
def test_two_backbones_and_two_precisions_of_one_item_never_meet(tiny_image: Path, tmp_path: Path) -> None:
    dense = write_tiny_dense(tmp_path / "dense")
    folders = [tiny_image, dense, derive(dense, "bf16", tmp_path / "dense-bf16")]
    items = [png(flat(red, 50, 70)) for red in range(16)]
    alone = [extract(folder, tmp_path / folder.name / "cache", items)[0] for folder in folders]
    assert not np.array_equal(alone[1], alone[2])
    for asked_before in (False, True):
        for folder, expected in zip(folders, alone, strict=True):
            X, cached = extract(folder, tmp_path / "shared", items)
            assert cached == {asked_before}
            np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error_and_never_stored(tiny_image: Path, tmp_path: Path, value: float) -> None:
    item = png(flat(1))
    with Extractor.load(tiny_image, cache=str(tmp_path)) as extractor:
        forward = extractor._batcher._forward
        extractor._batcher._forward = lambda arrays: forward(arrays) + np.float32(value)
        (outcome,) = extractor.extract_each([item])
        assert isinstance(outcome.error, InferenceFailed)
        (outcome,) = extractor.extract_each([b"no image"])
        assert isinstance(outcome.error, UndecodableItem)
        extractor._batcher._forward = forward
        (outcome,) = extractor.extract_each([item])
        assert (outcome.cached, outcome.error) == (False, None)
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert store.facts().n_entries == 1
