"""Keys, roles and bounds, over a real port."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractor import Extractor
from extractor.limits import Limits
from headwater import Client, keyring
from headwater.admin_client import AdminClient
from headwater.errors import HeadwaterError, PermissionDenied, RateExceeded, TooManyCalls, Unauthenticated
from headwater.keyring import KeyRing
from headwater.keys import Role, add, revoke
from headwater.server import ServerSettings
from headwater.service import door
from headwater.service.calls import Call
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import InProcess, in_this_process
from tests.tiny import flat, png

EXTRACT = [Role.EXTRACT]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    add(path, "someone", EXTRACT)
    return path


@pytest.fixture
def server(tiny_image: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    """A server that asks for keys, and looks at their file before each call."""
    monkeypatch.setattr(keyring, "CHECK_S", 0.0)
    with in_this_process({"tiny-image": Extractor.load(tiny_image)}, ServerSettings(port=0, keys=keys)) as one:
        yield one


def extract(address: str, n_items: int = 1, **access: Any) -> list[float]:
    with Client(address, timeout_s=20, **access) as client:
        return client.extract([flat(i) for i in range(n_items)])[:, 0].tolist()


def raw(address: str, n_items: int = 1, metadata: Sequence[tuple[str, str]] = ()) -> grpc.RpcError | None:
    """Call as someone else's client does, which tries once; return how it failed."""
    with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        request = pb.ExtractRequest(items=[pb.Item(data=png(flat(i))) for i in range(n_items)])
        try:
            stub.Extract(request, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error
        return None


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def pushback(error: grpc.RpcError | None) -> int:
    assert error is not None
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])


def test_a_key_opens_under_each_of_its_headers(server: InProcess, keys: Path) -> None:
    key = add(keys, "alice", EXTRACT)
    assert extract(server.address, 3, key=key) == [0, 1, 2]
    assert raw(server.address, metadata=[("authorization", f"bearer {key}")]) is None
    assert raw(server.address, metadata=[("x-api-key", key)]) is None


def test_without_a_good_key_nothing_is_answered(server: InProcess, keys: Path) -> None:
    key = add(keys, "alice", EXTRACT)
    for wrong in (None, "hw_1_2", "rubbish", key[:-2]):
        with pytest.raises(Unauthenticated):
            extract(server.address, key=wrong)
    expired = add(keys, "bob", EXTRACT, expires_in=timedelta(days=-1))
    with pytest.raises(Unauthenticated, match="expired"):
        extract(server.address, key=expired)
    for metadata in ((), bearer(""), [("authorization", f"Basic {key}")], [("x-api-key", "é".encode().hex())]):
        error = raw(server.address, metadata=metadata)
        assert error is not None
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@given(header=st.sampled_from(["authorization", "x-api-key"]), value=st.text(st.characters(codec="ascii"), max_size=80))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_as_a_key_is_refused_in_order(server: InProcess, header: str, value: str) -> None:
    value = "".join(filter(str.isprintable, value)).strip()
    for sent in (value, f"Bearer {value}", f"hw_{value}"):
        error = raw(server.address, metadata=[(header, sent)])
        assert error is not None
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_need_no_key(server: InProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_revoked_key_stops_working_while_the_server_runs(server: InProcess, keys: Path) -> None:
    key = add(keys, "alice", EXTRACT)
    with Client(server.address, key=key) as client:
        client.extract([flat(1)])
        revoke(keys, "alice")
        with pytest.raises(Unauthenticated, match="revoked"):
            client.extract([flat(1)])


def test_a_key_file_that_breaks_while_serving_locks_no_one_out(server: InProcess, keys: Path) -> None:
    key = add(keys, "alice", EXTRACT)
    extract(server.address, key=key)
    keys.write_text("{")
    assert extract(server.address, key=key) == [0]


def test_a_key_without_the_role_may_look_and_no_more(server: InProcess, keys: Path) -> None:
    with Client(server.address, key=add(keys, "alice", [Role.CLASSIFY])) as client:
        assert [one.name for one in client.backbones()] == ["tiny-image"]
        with pytest.raises(PermissionDenied, match=r"Extract needs .*role extract; 'alice' has classify"):
            client.extract([flat(1)])


def test_a_key_at_its_rate_is_told_when_and_another_passes(server: InProcess, keys: Path) -> None:
    slow = add(keys, "slow", EXTRACT, items_per_s=0.5, burst=4)
    other = add(keys, "other", EXTRACT)
    assert raw(server.address, 4, bearer(slow)) is None
    refused = raw(server.address, 2, bearer(slow))
    assert 0 < pushback(refused) <= 4000
    assert refused is not None
    assert "'slow' may send 0.5 items a second and 4 at once" in refused.details()
    assert pushback(raw(server.address, 5, bearer(slow))) == -1
    assert raw(server.address, 64, bearer(other)) is None


def test_our_client_waits_as_it_is_told_and_is_answered(server: InProcess, keys: Path) -> None:
    """It is told of the key's burst, too, and sends no more at once."""
    key = add(keys, "alice", EXTRACT, items_per_s=40, burst=4)
    assert extract(server.address, 20, key=key) == list(range(20))


def test_a_call_without_a_key_is_refused_before_its_message_is_read(server: InProcess) -> None:
    def message_that_never_comes() -> Iterator[bytes]:
        held.wait(20)
        yield from ()

    held = threading.Event()
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_unary("/headwater.v1.ExtractorService/Extract").future(
            message_that_never_comes(), timeout=15
        )
        code, metadata = call.code(), dict(call.trailing_metadata())
        held.set()
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert metadata["headwater-reason"] == Unauthenticated.__name__


def test_items_that_the_queue_did_not_take_are_not_counted(tiny_image: Path, keys: Path) -> None:
    key = add(keys, "alice", EXTRACT, items_per_s=0.01, burst=8)
    held = Held(tiny_image, Limits(max_queue_size=4))
    with held.served(ServerSettings(port=0, keys=keys)) as server:
        for _ in range(4):
            error = raw(server.address, 5, bearer(key))
            assert error is not None
            assert "queue" in error.details()
        held.go.set()
        assert raw(server.address, 4, bearer(key)) is None
        assert raw(server.address, 4, bearer(key)) is None
        assert pushback(raw(server.address, 4, bearer(key))) > 10_000


class Held:
    """A backbone whose session answers nothing until it is let go."""

    def __init__(self, folder: Path, limits: Limits | None = None, pause_s: float = 0.0) -> None:
        self.extractor = Extractor.load(folder, workers=1, limits=limits or Limits())
        self.go = threading.Event()
        forward = self.extractor.backbone.forward

        def wait(arrays: Sequence[np.ndarray]) -> np.ndarray:
            assert self.go.wait(30)
            time.sleep(pause_s)
            return forward(arrays)

        self.extractor._batcher._forward = wait

    @contextmanager
    def served(self, settings: ServerSettings) -> Iterator[InProcess]:
        with in_this_process({"tiny-image": self.extractor}, settings) as server, ExitStack() as stack:
            stack.callback(self.go.set)  # before the server stops
            yield server


def refused_of(running: list[Any], n: int) -> list[Any]:
    """Wait until so many calls were refused, and return them."""
    deadline = time.monotonic() + 10
    while sum(call.done() for call in running) < n and time.monotonic() < deadline:
        time.sleep(0.01)
    return [call for call in running if call.done()]


@pytest.mark.parametrize(
    ("bounds", "max_calls", "n_refused", "words"),
    [
        ({"max_calls": 2}, 1024, 3, "'greedy' has 2 calls running, and may have 2"),
        ({}, 5, 1, "what is left is for others"),
        ({}, 4, 1, "the limit of the server is 4"),
    ],
)
def test_calls_at_once_are_bound_and_one_key_leaves_room_for_another(
    tiny_image: Path, keys: Path, bounds: dict, max_calls: int, n_refused: int, words: str
) -> None:
    greedy, other = add(keys, "greedy", EXTRACT, **bounds), add(keys, "other", EXTRACT)
    admin = add(keys, "admin", [Role.ADMIN])
    bound = ServerSettings(port=0, keys=keys, max_concurrent_calls=max_calls)
    with (
        Held(tiny_image).served(bound) as server,
        grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        request = pb.ExtractRequest(items=[pb.Item(data=png(flat(1)))])
        running = [stub.Extract.future(request, timeout=25, metadata=bearer(greedy)) for _ in range(5)]
        refused = refused_of(running, n_refused)
        assert len(refused) == n_refused
        for call in refused:
            assert words in call.details()
            assert dict(call.trailing_metadata())["headwater-reason"] == TooManyCalls.__name__
            assert 20 <= pushback(call) <= 5000
        listed = raw(server.address, 0, bearer(other))
        assert (listed is None) is (max_calls != 4)
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with AdminClient(server.address, key=admin) as administrator:  # also where the server is full
            assert administrator.status().running_calls == 5 - n_refused
        assert sum(call.done() for call in running) == n_refused


def test_a_key_with_much_in_the_queue_does_not_keep_another_waiting(tiny_image: Path, keys: Path) -> None:
    greedy, other = add(keys, "greedy", EXTRACT), add(keys, "other", EXTRACT)
    held = Held(tiny_image, pause_s=0.002)
    with (
        held.served(ServerSettings(port=0, keys=keys)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)

        def send(first: int, key: str) -> Any:
            items = [pb.Item(data=png(flat(1)) + f"{first + i}".encode()) for i in range(10)]
            return stub.Extract.future(pb.ExtractRequest(items=items), timeout=30, metadata=bearer(key))

        running = [send(10 * i, greedy) for i in range(40)]
        wait_until(lambda: held.extractor.queue().n_items >= 300)
        n_queued = held.extractor.queue().n_items
        late = send(1000, other)
        wait_until(lambda: held.extractor.queue().n_items >= n_queued + 10)
        held.go.set()
        late.result()
        assert sum(call.done() for call in running) < 20
        assert all(call.result() for call in running)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_secret_is_in_the_log(server: InProcess, keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = add(keys, "alice", EXTRACT)
    extract(server.address, key=key)
    revoke(keys, "alice")
    for sent in (key, key + "x", "hw_nobody_" + key.split("_", 2)[2]):
        with pytest.raises(HeadwaterError):
            extract(server.address, key=sent)
    secret = key.split("_", 2)[2]
    assert secret not in caplog.text
    assert secret not in keys.read_text()


def test_every_method_of_ours_has_its_roles() -> None:
    from importlib import import_module

    import headwater.v1

    for path in Path(headwater.v1.__file__).parent.glob("*_pb2.py"):
        for service in import_module(f"headwater.v1.{path.stem}").DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert method.name in door.ROLES_FOR, f"{service.full_name}.{method.name} has no row in {door.__file__}"
                assert (door.ROLES_FOR[method.name] == {Role.ADMIN}) is (service.name == "AdminService")


@pytest.mark.parametrize(("open_roles", "allowed"), [(door.EVERY_ROLE, True), (door.EVERY_ROLE - {Role.ADMIN}, False)])
def test_without_keys_only_this_machine_is_an_administrator(
    open_roles: frozenset, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(door.ROLES_FOR, "Unload", frozenset({Role.ADMIN}))
    one = door.Door(open_roles=open_roles)
    with ExitStack() as stack:
        if not allowed:
            stack.enter_context(pytest.raises(PermissionDenied, match="--keys"))
        stack.enter_context(one.admit(Brings(), "Unload"))


def test_a_method_without_a_row_is_a_loud_mistake() -> None:
    with pytest.raises(LookupError, match="NewMethod"), door.Door().admit(Brings(), "NewMethod"):
        pass


def test_a_stream_is_slowed_to_its_keys_rate_and_ended_when_the_key_is_revoked(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "CHECK_S", 0.0)
    key = add(keys, "alice", EXTRACT, items_per_s=100, burst=5)
    ring = KeyRing(keys)
    ring.load()

    async def stream() -> float:
        begun = time.monotonic()
        with door.Door(ring).admit(Brings(*bearer(key)), "ExtractStream") as admitted:
            call = Call("ExtractStream", admitted=admitted)
            for _ in range(5):
                await call.pace(5)
            took = time.monotonic() - begun
            with pytest.raises(RateExceeded, match="can never pass"):
                await call.pace(6)
            revoke(keys, "alice")
            with pytest.raises(Unauthenticated, match="revoked"):
                await call.pace(1)
        return took

    assert asyncio.run(stream()) >= 0.19


class Brings:
    """The context of a call that brings some metadata."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = metadata

    def invocation_metadata(self) -> tuple:
        return self.metadata

    def auth_context(self) -> dict:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"
