import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extractor import Extractor
from extractor.cache.control import CacheControl
from extractor.cache.memory import MemoryCache
from extractor.errors import (
    BackboneInvalid,
    Closed,
    EmptyItem,
    InferenceFailed,
    ItemTooLarge,
    ProviderUnavailable,
    QueueFull,
    UndecodableItem,
)
from extractor.golden import read_golden, write_golden
from extractor.limits import Limits
from extractor.pipeline import SLICE
from extractor.spec import read_spec, sha256, write_spec
from tests.tiny import TABLE, WORDS, flat, png

WAIT_S = 20


class Held:
    """A backbone whose forward waits for `go`, and counts the items it computed."""

    def __init__(self, extractor: Extractor) -> None:
        self.computed = 0
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self._forward = extractor.backbone.forward
        extractor._batcher._forward = self

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        self.entered.release()
        assert self.go.wait(WAIT_S)
        self.computed += len(arrays)
        return self._forward(arrays)


@pytest.fixture
def cached(tiny_image: Path) -> Iterator[Extractor]:
    with Extractor.load(tiny_image, cache=MemoryCache(max_bytes=1 << 20), workers=1) as extractor:
        yield extractor


@pytest.fixture
def held(cached: Extractor) -> Iterator[Held]:
    one = Held(cached)
    yield one
    one.go.set()


def red(i: int) -> bytes:
    return png(flat(i))


def test_items_become_rows_in_order(cached: Extractor) -> None:
    found = cached.extract([red(3), flat(4, 5, 6), red(2)])
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 0, 0], [4, 5, 6], [2, 0, 0]]


def test_texts_become_the_mean_over_their_tokens_whatever_shares_their_batch(tiny_text: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[1:], size=n)) for n in rng.integers(1, 7, size=200)]
    with Extractor.load(tiny_text) as extractor:
        found = extractor.extract(texts)
    expected = [TABLE[[WORDS.index(word) for word in text.split()]].mean(axis=0) for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_items_are_no_rows(cached: Extractor) -> None:
    assert cached.extract([]).shape == (0, 3)
    assert cached.extract_each([]) == []


def test_more_items_than_a_slice_from_a_generator(cached: Extractor) -> None:
    n = 3 * SLICE + 1
    assert cached.extract(red(i % 256) for i in range(n))[:, 0].tolist() == [i % 256 for i in range(n)]


def test_a_bad_item_has_its_own_error_and_the_others_are_answered(cached: Extractor) -> None:
    outcomes = cached.extract_each([red(1), b"", b"\0" * 50, red(2)])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), EmptyItem, UndecodableItem, type(None)]
    assert [outcome.embedding is None for outcome in outcomes] == [False, True, True, False]
    with pytest.raises(EmptyItem, match=r"^item 1: item has 0 bytes"):
        cached.extract([red(1), b""])


def test_what_was_cut_is_said_also_from_the_cache(tiny_text: Path) -> None:
    with Extractor.load(tiny_text, cache=MemoryCache(max_bytes=1 << 20)) as extractor:
        for cached in (False, True):
            long, short = extractor.extract_each(["red " * 50, "red"])
            assert (long.truncated, long.cached) == (True, cached)
            assert (short.truncated, short.cached) == (False, cached)


def test_the_cache_returns_the_exact_bits(cached: Extractor) -> None:
    items = [png(np.random.default_rng(i).integers(0, 256, (30, 20, 3), np.uint8)) for i in range(20)]
    first, second = cached.extract_each(items), cached.extract_each(items)
    assert not any(outcome.cached for outcome in first)
    assert all(outcome.cached for outcome in second)
    for one, other in zip(first, second, strict=True):
        assert one.embedding.tobytes() == other.embedding.tobytes()


def test_errors_are_not_cached(cached: Extractor) -> None:
    for _ in range(2):
        (outcome,) = cached.extract_each([b"\0" * 50])
        assert isinstance(outcome.error, UndecodableItem)
        assert not outcome.cached
    assert len(cached.cache) == 0


def test_not_finite_is_an_error_and_never_stored(cached: Extractor) -> None:
    cached._batcher._forward = lambda arrays: np.full((len(arrays), 3), np.inf, np.float32)
    (outcome,) = cached.extract_each([red(1)])
    assert isinstance(outcome.error, InferenceFailed)
    assert len(cached.cache) == 0


def test_one_cache_keeps_two_backbones_apart(tiny_image: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "other")
    spec = read_spec(folder)
    write_spec(folder, replace(spec, pooling="another"))
    cache = MemoryCache(max_bytes=1 << 20)
    with Extractor.load(tiny_image, cache=cache) as one, Extractor.load(folder, cache=cache) as other:
        one.extract([red(1)])
        assert not other.extract_each([red(1)])[0].cached
        assert one.extract_each([red(1)])[0].cached


def test_an_item_that_stands_twice_is_computed_once(cached: Extractor, held: Held) -> None:
    held.go.set()
    assert cached.extract([red(1), red(2), red(1), red(1)])[:, 0].tolist() == [1, 2, 1, 1]
    assert held.computed == 2


def test_callers_at_once_share_one_flight(cached: Extractor, held: Held) -> None:
    requests = [cached.submit([red(7)]) for _ in range(30)]
    held.go.set()
    for request in requests:
        assert request.future.result(WAIT_S)[0].embedding.tolist() == [7, 0, 0]
    assert held.computed == 1


def test_the_first_caller_may_leave_and_the_others_still_get_it(cached: Extractor, held: Held) -> None:
    blocker = cached.submit([red(0)])
    assert held.entered.acquire(timeout=WAIT_S)
    first, second = cached.submit([red(7)]), cached.submit([red(7)])
    cached.cancel(first)
    held.go.set()
    assert second.future.result(WAIT_S)[0].embedding.tolist() == [7, 0, 0]
    with pytest.raises(CancelledError):
        first.future.result(WAIT_S)
    blocker.future.result(WAIT_S)


def test_what_nobody_waits_for_is_not_computed_and_can_be_asked_again(cached: Extractor, held: Held) -> None:
    blocker = cached.submit([red(0)])
    assert held.entered.acquire(timeout=WAIT_S)
    requests = [cached.submit([red(7), red(8)]) for _ in range(3)]
    for request in requests:
        cached.cancel(request)
        cached.cancel(request)  # leaving twice is leaving once
    again = cached.submit([red(8)])
    held.go.set()
    blocker.future.result(WAIT_S)
    assert again.future.result(WAIT_S)[0].embedding.tolist() == [8, 0, 0]
    assert held.computed == 2


def test_a_caller_that_stops_reading_leaves_the_queue(cached: Extractor, held: Held) -> None:
    blocker = cached.submit([red(0)])
    assert held.entered.acquire(timeout=WAIT_S)

    def items() -> Iterator[bytes]:
        yield from (red(i) for i in range(1, 1 + SLICE))
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        cached.extract(items())
    held.go.set()
    blocker.future.result(WAIT_S)
    cached.extract([red(200)])
    assert held.computed == 2


def test_a_full_queue_refuses_whole_requests_and_recovers(tiny_image: Path) -> None:
    with Extractor.load(tiny_image, workers=1, limits=Limits(max_queue_size=2)) as extractor:
        held = Held(extractor)
        blocker = extractor.submit([red(0)])
        assert held.entered.acquire(timeout=WAIT_S)
        waiting = extractor.submit([red(1)])
        with pytest.raises(QueueFull, match="limit of 2"):
            extractor.submit([red(1), red(2), red(3)])
        held.go.set()
        assert waiting.future.result(WAIT_S)[0].embedding.tolist() == [1, 0, 0]
        assert extractor.extract([red(2), red(3)])[:, 0].tolist() == [2, 3]
        blocker.future.result(WAIT_S)


def test_close_tells_what_waits_and_leaves_no_thread(tiny_image: Path) -> None:
    before = set(threading.enumerate())
    extractor = Extractor.load(tiny_image, workers=1)
    held = Held(extractor)
    running = extractor.submit([red(0)])
    assert held.entered.acquire(timeout=WAIT_S)
    waiting = extractor.submit([red(1)])
    closing = threading.Thread(target=extractor.close)
    closing.start()
    assert isinstance(waiting.future.result(WAIT_S)[0].error, Closed)
    held.go.set()
    closing.join(WAIT_S)
    assert running.future.result(WAIT_S)[0].embedding.tolist() == [0, 0, 0]
    assert set(threading.enumerate()) == before
    with pytest.raises(Closed):
        extractor.extract([red(2)])


def test_limits_for_others_do_not_keep_a_backbone_from_proving_itself(tiny_image: Path) -> None:
    with Extractor.load(tiny_image, limits=Limits(max_item_bytes=10, max_pixels=4)) as extractor:
        assert isinstance(extractor.extract_each([png(flat(1))])[0].error, ItemTooLarge)
        extractor.check()


def test_large_items_wait_for_room_instead_of_failing(tiny_image: Path) -> None:
    items = [png(np.random.default_rng(i).integers(0, 256, (60, 60, 3), np.uint8)) for i in range(40)]
    bound = sum(map(len, items)) // 10
    with Extractor.load(tiny_image, limits=Limits(max_queue_bytes=bound)) as extractor:
        assert extractor.extract(items).shape == (40, 3)
    with Extractor.load(tiny_image, limits=Limits(max_queue_size=3)) as extractor:
        assert extractor.extract([red(i) for i in range(100)])[:, 0].tolist() == list(range(100))


def test_what_landed_between_look_up_and_boarding_is_not_computed_again(cached: Extractor, held: Held) -> None:
    held.go.set()
    look_up = cached.cache.get_many

    def overtaken(keys: Sequence[bytes]) -> list:
        found, cached.cache.get_many = look_up(keys), look_up
        cached.extract([red(1)])
        return found

    cached.cache.get_many = overtaken
    assert cached.submit([red(1), red(2)]).future.result(WAIT_S)[0].embedding.tolist() == [1, 0, 0]
    assert held.computed == 2
    facts = cached.cache.facts()[0]
    assert (facts.hits, facts.misses) == (1, 3)  # only what has landed is looked up again


def test_a_miss_is_looked_up_once(cached: Extractor) -> None:
    cached.extract([red(i) for i in range(3)])
    cached.extract([red(i) for i in range(4)])
    facts = cached.cache.facts()[0]
    assert (facts.hits, facts.misses) == (3, 4)


def test_a_cache_that_fails_leaves_no_flight_behind(cached: Extractor) -> None:
    look_up, calls = cached.cache.get_many, []

    def failing(keys: Sequence[bytes]) -> list:
        calls.append(keys)
        if len(calls) == 1:  # another caller overtakes this one, which so looks once more
            cached.cache.get_many = look_up
            cached.extract([red(1)])
            cached.cache.get_many = failing
            return [None]
        raise OSError("the disk is gone")

    cached.cache.get_many = failing
    with pytest.raises(OSError, match="the disk is gone"):
        cached.submit([red(1)])
    anew = CacheControl(no_cache=True)  # it would join a flight that was left behind
    assert cached.submit([red(1)], control=anew).future.result(WAIT_S)[0].embedding.tolist() == [1, 0, 0]


def test_a_single_item_is_not_taken_for_several(cached: Extractor) -> None:
    for single in ("text", b"bytes", Path("file")):
        with pytest.raises(TypeError, match="put it into a list"):
            cached.extract(single)


def test_no_workers_are_refused(tiny_image: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        Extractor.load(tiny_image, workers=0)


def test_a_dim_that_is_not_the_graphs_is_refused(tiny_image: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "copy")
    write_spec(folder, replace(read_spec(folder), dim=6))
    with pytest.raises(BackboneInvalid, match=r"holds embeddings \(2, 3\).*dim is 6"):
        Extractor.load(folder)


def test_limits_are_settings(tiny_image: Path) -> None:
    limits = Limits(max_item_bytes=1000, max_pixels=100)
    with Extractor.load(tiny_image, limits=limits) as extractor:
        outcomes = extractor.extract_each([b"x" * 1001, png(flat(1, size=11)), png(flat(1, size=10))])
    assert [type(outcome.error) for outcome in outcomes] == [ItemTooLarge, ItemTooLarge, type(None)]


def test_a_session_that_misses_its_golden_embeddings_is_not_served(tiny_image: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "copy")
    golden = read_golden(folder / "golden.npz")
    golden.embeddings[0, 0] += 0.01
    write_golden(folder / "golden.npz", golden)
    spec = read_spec(folder)
    write_spec(folder, replace(spec, files={**spec.files, "golden.npz": sha256(folder / "golden.npz")}))
    with pytest.raises(BackboneInvalid, match=r"misses its golden embeddings.*largest difference 3\.3e-04"):
        Extractor.load(folder)


def test_a_provider_that_is_not_there_is_an_error(tiny_image: Path) -> None:
    with pytest.raises(ProviderUnavailable, match="no provider 'tpu' here, only "):
        Extractor.load(tiny_image, provider="tpu")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ProviderUnavailable, match=r"no provider 'cuda' here.*headwater\[gpu\]"):
            Extractor.load(tiny_image, provider="cuda")


def test_a_graph_that_is_not_the_specs_is_refused(tiny_image: Path, tiny_text: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "copy")
    for content, message in (((tiny_text / "model.onnx").read_bytes(), "its spec says"), (b"nonsense", "cannot load")):
        (folder / "model.onnx").write_bytes(content)
        spec = read_spec(folder)
        files = {**spec.files, "model.onnx": sha256(folder / "model.onnx")}
        write_spec(folder, replace(spec, files=files))
        with pytest.raises(BackboneInvalid, match=message):
            Extractor.load(folder)


def test_a_cache_may_be_named_as_a_path_and_outlives_its_extractor(tiny_text: Path, tmp_path: Path) -> None:
    for cached in (False, True):
        with Extractor.load(tiny_text, cache=tmp_path / "cache") as extractor:
            assert [one.cached for one in extractor.extract_each(["red", "blue"])] == [cached] * 2
