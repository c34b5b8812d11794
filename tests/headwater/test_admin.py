"""Changes to a running server, over a real port: no request is dropped, and health says what is so."""

import dataclasses
import gc
import itertools
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from extractor import Extractor
from extractor.errors import (
    BackboneBusy,
    BackboneChanged,
    BackboneInvalid,
    BackboneNotFound,
    BackboneServed,
    Closed,
    RequestInvalid,
)
from extractor.home import backbones_folder
from extractor.spec import MODEL_FILE, read_spec, write_spec
from headwater import Client, keys
from headwater.admin_client import AdminClient
from headwater.errors import ClientClosed, PermissionDenied, ServiceError
from headwater.keys import Role
from headwater.server import ServerSettings
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.headwater.test_health import NOT_SERVING, SERVING, becomes, health
from tests.inprocess import InProcess, in_this_process
from tests.tiny import flat, png, write_tiny_image, write_tiny_text

UNKNOWN = 3  # health's SERVICE_UNKNOWN
WAIT_S = 20
N_REPLACES = 20
SWAP_S = 0.01  # a forward takes as long, so that whenever one swaps, requests run
FIRST, SECOND = "first", "second"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own with an image backbone and a text backbone."""
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    write_tiny_image(backbones_folder() / FIRST)
    write_tiny_text(backbones_folder() / SECOND)
    return backbones_folder()


def load(name: str) -> Extractor:
    return Extractor.load(name, workers=2)


@pytest.fixture
def server(installed: Path) -> Iterator[InProcess]:
    """A server of the image backbone."""
    with in_this_process({FIRST: load(FIRST)}, ServerSettings(port=0), load=load) as one:
        yield one


@pytest.fixture
def admin(server: InProcess) -> Iterator[AdminClient]:
    with AdminClient(server.address, timeout_s=WAIT_S) as one:
        yield one


class Held:
    """A forward that waits until it is let go."""

    def __init__(self, extractor: Extractor) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self._forward = extractor.backbone.forward
        extractor.backbone.forward = extractor._batcher._forward = self

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        self.entered.set()
        assert self.go.wait(WAIT_S)
        return self._forward(arrays)


class Load:
    """Threads that call all the time until the block ends, and what they got."""

    def __init__(self, address: str, n_threads: int = 3) -> None:
        self._address = address
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(n_threads)]
        self.errors: list[grpc.RpcError] = []
        self.fingerprints: list[str] = []

    def _call(self, seed: int) -> None:
        with grpc.insecure_channel(self._address, [("grpc.enable_retries", 0)]) as channel:
            stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
            for i in itertools.count():
                if self._end.is_set():
                    return
                colour = (seed, i % 256, i // 256 % 256)
                try:
                    reply = stub.Extract(
                        pb.ExtractRequest(backbone=FIRST, items=[pb.Item(data=png(flat(*colour)))]), timeout=WAIT_S
                    )
                    assert np.frombuffer(reply.embeddings, "<f4").tolist() == list(colour)
                    self.fingerprints.append(reply.fingerprint)
                except grpc.RpcError as error:
                    self.errors.append(error)

    def wait_for_more(self) -> None:
        """Wait until each thread can have called once more."""
        before = len(self.fingerprints)
        deadline = time.monotonic() + WAIT_S
        while len(self.fingerprints) < before + len(self._threads) and time.monotonic() < deadline:
            time.sleep(0.001)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(WAIT_S)


def change(folder: Path) -> None:
    """Make a backbone of another fingerprint, which computes the same."""
    write_spec(folder, dataclasses.replace(read_spec(folder), pooling="other"))


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{name}-")]


def settles(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        gc.collect()
        time.sleep(0.01)
    return True


def test_backbones_come_go_and_are_replaced_under_load_and_no_request_fails(installed: Path) -> None:
    loaded: list[weakref.ref[Extractor]] = []

    def remembered(name: str) -> Extractor:
        extractor = load(name)
        forward = extractor.backbone.forward

        def slowly(arrays: Sequence[np.ndarray]) -> np.ndarray:
            time.sleep(SWAP_S)
            return forward(arrays)

        extractor._batcher._forward = slowly
        loaded.append(weakref.ref(extractor))
        return extractor

    first = {FIRST: remembered(FIRST)}
    valid = {first[FIRST].fingerprint}
    n_threads = len(threads_of(FIRST))
    with in_this_process(first, load=remembered) as server, AdminClient(server.address) as admin:
        first.clear()
        with Load(server.address) as calls:
            calls.wait_for_more()
            assert admin.load(SECOND).serving
            for i in range(N_REPLACES):
                if i == N_REPLACES // 2:
                    change(installed / FIRST)
                done = admin.replace(FIRST, allow_new_fingerprint=True)
                valid.add(done.backbone.fingerprint)
                calls.wait_for_more()
            admin.unload(SECOND)
            calls.wait_for_more()
        assert calls.errors == []
        assert len(valid) == 2
        assert set(calls.fingerprints) == valid
        assert calls.fingerprints[-1] == done.backbone.fingerprint
        assert settles(lambda: len(threads_of(FIRST)) == n_threads and not threads_of(SECOND))
        assert settles(lambda: sum(one() is not None for one in loaded) == 1)
        assert admin.status().leaving == 0


def test_an_unloaded_backbone_finishes_what_runs_and_takes_nothing_new(installed: Path) -> None:
    extractors = {FIRST: load(FIRST), SECOND: load(SECOND)}
    held = Held(extractors[FIRST])
    with (
        in_this_process(extractors) as server,
        AdminClient(server.address) as admin,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        running = stub.Extract.future(pb.ExtractRequest(backbone=FIRST, items=[pb.Item(data=png(flat(1)))]))
        assert held.entered.wait(WAIT_S)
        assert admin.unload(FIRST) == 1
        assert admin.status().leaving == 1
        with Client(server.address) as client, pytest.raises(BackboneNotFound, match=f"there are: {SECOND}"):
            client.extract([png(flat(2))], backbone=FIRST)
        held.go.set()
        assert np.frombuffer(running.result(WAIT_S).embeddings, "<f4").tolist() == [1, 0, 0]
        assert settles(lambda: admin.status().leaving == 0 and not threads_of(FIRST))


def test_the_last_backbone_can_go_and_come_back(server: InProcess, admin: AdminClient) -> None:
    admin.unload(FIRST)
    assert [health(server.address, name) for name in ("", FIRST)] == [NOT_SERVING, UNKNOWN]
    with Client(server.address) as client:
        with pytest.raises(BackboneNotFound, match="headwater admin load"):
            client.extract([png(flat(2))])
        assert client.backbones() == []
        admin.load(FIRST)
        assert client.extract([png(flat(2))]).tolist() == [[2, 0, 0]]
    assert [health(server.address, name) for name in ("", FIRST)] == [SERVING, SERVING]


def test_health_names_come_and_go(server: InProcess, admin: AdminClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health(server.address, SECOND)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    admin.load(SECOND)
    assert health(server.address, SECOND) == SERVING
    admin.unload(SECOND)
    assert [health(server.address, name) for name in ("", FIRST, SECOND)] == [SERVING, SERVING, UNKNOWN]


def test_another_fingerprint_is_refused_unless_it_is_expected_or_allowed(admin: AdminClient, installed: Path) -> None:
    (before,) = admin.status().backbones
    n_threads = len(threads_of(FIRST))
    change(installed / FIRST)
    new = Extractor.load(FIRST)
    new.close()
    for options in ({}, {"expected_fingerprint": "f" * 32}):
        with pytest.raises(BackboneChanged, match=f"{before.fingerprint}.*{new.fingerprint}"):
            admin.replace(FIRST, **options)
    assert admin.status().backbones[0].fingerprint == before.fingerprint
    assert settles(lambda: len(threads_of(FIRST)) == n_threads)
    with pytest.raises(RequestInvalid, match="leave out one"):
        admin.replace(FIRST, expected_fingerprint=new.fingerprint, allow_new_fingerprint=True)
    done = admin.replace(FIRST, expected_fingerprint=new.fingerprint)
    assert (done.old_fingerprint, done.backbone.fingerprint) == (before.fingerprint, new.fingerprint)


def test_a_damaged_folder_leaves_the_old_one_serving(server: InProcess, admin: AdminClient, installed: Path) -> None:
    (installed / FIRST / MODEL_FILE).write_bytes(b"no graph")
    with pytest.raises(BackboneInvalid, match=MODEL_FILE):
        admin.replace(FIRST)
    shutil.rmtree(installed / FIRST)
    with pytest.raises(BackboneNotFound, match=f"no backbone '{FIRST}'"):
        admin.replace(FIRST)
    assert health(server.address, FIRST) == SERVING
    with Client(server.address) as client:
        assert client.extract([png(flat(3))]).tolist() == [[3, 0, 0]]


def test_a_folder_that_names_itself_otherwise_is_refused(admin: AdminClient, installed: Path) -> None:
    (installed / SECOND).rename(installed / "third")
    with pytest.raises(BackboneInvalid, match="'third' calls itself 'second'"):
        admin.load("third")
    assert [one.name for one in admin.status().backbones] == [FIRST]
    assert settles(lambda: not threads_of(SECOND))


def test_only_names_are_taken(admin: AdminClient) -> None:
    paths = ["../x", "/tmp/x", "a/b", "a\\b", ".hidden", "..", "https://x", "a\0b"]  # noqa: S108
    for name, ask in itertools.product(["", *paths, "x" * 999], (admin.load, admin.unload, admin.replace)):
        with pytest.raises(RequestInvalid) as caught:
            ask(name)
        assert len(str(caught.value)) < 300


def test_what_is_not_there_and_what_is_already(admin: AdminClient) -> None:
    with pytest.raises(BackboneServed, match="headwater admin replace first"):
        admin.load(FIRST)
    with pytest.raises(BackboneNotFound, match=f"there: {FIRST}, {SECOND}"):
        admin.load("nope")
    for ask in (admin.unload, admin.replace):
        with pytest.raises(BackboneNotFound, match=f"there are: {FIRST}"):
            ask(SECOND)


def test_a_second_change_of_a_name_is_refused_and_the_first_is_seen_through_when_its_caller_leaves(
    installed: Path,
) -> None:
    began, go = threading.Event(), threading.Event()

    def slowly(name: str) -> Extractor:
        began.set()
        assert go.wait(WAIT_S)
        return load(name)

    with (
        in_this_process({FIRST: load(FIRST)}, load=slowly) as server,
        AdminClient(server.address) as admin,
        AdminClient(server.address, timeout_s=0.3) as hasty,
        Client(server.address) as client,
    ):
        with pytest.raises(ServiceError, match="DEADLINE_EXCEEDED"):
            hasty.load(SECOND)
        assert began.is_set()
        assert admin.status().changing == [SECOND]
        with pytest.raises(BackboneBusy, match="headwater admin status"):
            admin.load(SECOND)
        assert client.extract([png(flat(3))]).tolist() == [[3, 0, 0]]
        go.set()
        assert settles(lambda: [one.name for one in admin.status().backbones] == [FIRST, SECOND])
        assert client.extract(["red"], backbone=SECOND).shape == (1, 4)


def test_a_session_that_hangs_is_not_serving_until_it_answers_and_neighbours_are_not_disturbed(
    installed: Path,
) -> None:
    extractors = {FIRST: load(FIRST), SECOND: load(SECOND)}
    held = Held(extractors[FIRST])
    with (
        in_this_process(extractors, ServerSettings(port=0, check_timeout_s=1.0)) as server,
        Client(server.address) as client,
        AdminClient(server.address) as admin,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        running = stub.Extract.future(pb.ExtractRequest(backbone=FIRST, items=[pb.Item(data=png(flat(1)))]))
        assert held.entered.wait(WAIT_S)
        begun = time.monotonic()
        assert becomes(server.address, FIRST, NOT_SERVING)
        assert time.monotonic() - begun < 2.0  # twice the time, for a machine that is busy
        assert [one.serving for one in admin.status().backbones] == [False, True]
        time.sleep(2.5)  # timeouts later
        assert len([thread for thread in threading.enumerate() if thread.name == "aside-check"]) == 1
        assert health(server.address, SECOND) == SERVING
        assert client.extract(["red"], backbone=SECOND).shape == (1, 4)
        held.go.set()
        assert becomes(server.address, FIRST, SERVING)
        assert running.result(WAIT_S).outcomes[0].row == 0
        assert health(server.address, SECOND) == SERVING


def test_a_drained_server_finishes_what_runs_refuses_the_rest_and_still_answers_its_admin(installed: Path) -> None:
    extractors = {FIRST: load(FIRST)}
    held = Held(extractors[FIRST])
    with (
        in_this_process(extractors) as server,
        AdminClient(server.address) as admin,
        grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        running = stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=png(flat(1)))]))
        assert held.entered.wait(WAIT_S)
        with pytest.raises(RequestInvalid, match="0 to 86,400 s"):
            admin.drain(timeout_s=-1)
        done = admin.drain(timeout_s=0.2)
        assert (done.quiet, done.running_calls) == (False, 1)
        assert health(server.address, FIRST) == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Extract(pb.ExtractRequest(items=[pb.Item(data=b"x")]))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["headwater-reason"] == Closed.__name__
        held.go.set()
        assert running.result(WAIT_S).outcomes[0].row == 0
        assert admin.drain().quiet
        assert admin.status().draining


def test_a_drain_that_stops_ends_the_server(server: InProcess, admin: AdminClient) -> None:
    assert admin.drain(stop=True).quiet
    assert settles(lambda: not server.thread.is_alive())


def test_only_an_administrators_key_opens_the_admins_methods(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    extract, root = keys.add(file, "alice", [Role.EXTRACT]), keys.add(file, "root", [Role.ADMIN])
    with in_this_process({FIRST: load(FIRST)}, ServerSettings(port=0, keys=file), load=load) as server:
        with AdminClient(server.address, key=extract) as alice:
            for ask in (alice.status, alice.drain, lambda: alice.load(SECOND)):
                with pytest.raises(PermissionDenied, match="admin"):
                    ask()
        with AdminClient(server.address, key=root) as admin:
            assert not admin.status().draining
            assert admin.load(SECOND).serving


def test_a_closed_client_says_so() -> None:
    with AdminClient("127.0.0.1:1") as client:
        pass
    with pytest.raises(ClientClosed, match="make another one"):
        client.status()


def test_a_log_level_takes_effect(admin: AdminClient, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("headwater.service.admin")
    before = logger.level
    try:
        admin.set_log_level("INFO", logger=logger.name)
        assert admin.set_log_level("error", logger=logger.name) == "info"
        caplog.clear()
        admin.load(SECOND)
        assert not caplog.records
        assert admin.set_log_level("info", logger=logger.name) == "error"
        admin.unload(SECOND)
        assert "unloaded backbone 'second'" in caplog.text
    finally:
        logger.setLevel(before)
    ours = [logging.getLogger(name) for name in ("", "extractor", "classifiers", "headwater")]
    levels = [one.level for one in ours]
    try:
        admin.set_log_level("debug")
        assert [one.level for one in ours] == [logging.INFO] + [logging.DEBUG] * 3
        assert admin.set_log_level("error") == "debug"
        assert [one.level for one in ours] == [logging.ERROR] * 4
    finally:
        for one, level in zip(ours, levels, strict=True):
            one.setLevel(level)
    with pytest.raises(RequestInvalid, match="debug, info, warning, error"):
        admin.set_log_level("loud")
    with pytest.raises(RequestInvalid, match=r"no logger 'nope'.*headwater"):
        admin.set_log_level("info", logger="nope")


def test_a_server_stops_though_backbones_and_a_load_hang(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.server.LAST_WORD_S", 1.0)
    for i in range(5):
        write_tiny_image(installed / f"hung{i}")
    extractors = {name: load(name) for name in (f"hung{i}" for i in range(5))}
    held = [Held(extractor) for extractor in extractors.values()]
    loading = threading.Event()
    try:
        with (
            in_this_process(extractors, ServerSettings(port=0, drain_s=0), load=lambda name: loading.wait()) as server,
            grpc.insecure_channel(server.address) as channel,
            AdminClient(server.address, timeout_s=0.2) as hasty,
        ):
            with pytest.raises(ServiceError, match="DEADLINE_EXCEEDED"):
                hasty.load(SECOND)
            stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
            running = []
            for name, one in zip(extractors, held, strict=True):
                running.append(
                    stub.Extract.future(pb.ExtractRequest(backbone=name, items=[pb.Item(data=png(flat(1)))]))
                )
                assert one.entered.wait(WAIT_S)
            begun = time.monotonic()
            server.stop()
            server.thread.join(WAIT_S)
            assert {call.code() for call in running} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            assert time.monotonic() - begun < 5  # one after the other: five times LAST_WORD_S, and more beside it
    finally:
        for one in held:
            one.go.set()
        loading.set()


def test_status_tells_how_the_cache_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    caches = {"one": str(tmp_path / "cache"), "two": str(tmp_path / "cache"), "three": str(tmp_path / "file")}
    extractors = {
        name: Extractor.load(write_tiny_image(tmp_path / name), cache=cache)
        for name, cache in {**caches, "four": "off"}.items()
    }
    with (
        in_this_process(extractors) as server,
        AdminClient(server.address) as admin,
        Client(server.address) as client,
    ):
        client.extract([png(flat(1)), png(flat(2))], backbone="one")
        assert settles(lambda: admin.status().cache_tiers[0].stored == 2)
        client.extract([png(flat(1))], backbone="one")
        disk, broken = admin.status().cache_tiers
    assert (disk.tier, disk.entries, disk.hits, disk.stored, disk.dropped, disk.degraded) == ("disk", 2, 1, 2, 0, "")
    assert disk.misses == 2
    assert 0 < disk.bytes < disk.max_bytes
    assert not broken.HasField("entries")
    assert "cannot keep embeddings" in broken.degraded
