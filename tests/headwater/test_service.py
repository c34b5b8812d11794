"""The service over a real port, by our client and by foreign ones."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from extractor import Extractor
from extractor.errors import (
    BackboneNotFound,
    BackboneNotNamed,
    EmptyItem,
    ItemTooLarge,
    RequestTooLarge,
    UndecodableItem,
    UnreadableItem,
)
from headwater import Client
from headwater.errors import ServiceError
from headwater.process import ServerProcess, serving
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.extractor.test_decode import bomb
from tests.tiny import encoded, flat, png

NAME = "tiny-image"
MIB = 1 << 20


def noise(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as one:
        yield one


def test_client_and_process_give_the_same_embeddings(client: Client, tiny_image: Path) -> None:
    items = [png(noise(seed)) for seed in range(200)]
    with Extractor.load(tiny_image) as extractor:
        here = extractor.extract(items)
        fingerprint = extractor.fingerprint
    there = client.extract(items)
    assert there.dtype == np.float32
    assert np.abs(here - there).max() <= 1e-6 * np.abs(here).max()
    assert client.extract(items).tobytes() == there.tobytes()
    assert client.describe().fingerprint == fingerprint


def test_a_client_may_have_all_computed_anew_or_nothing_stored(server: ServerProcess, client: Client) -> None:
    items = [png(noise(2000 + seed)) for seed in range(4)]
    with Client(server.target, backbone="tiny-image", cache_control="no-store") as forgetful:
        unstored = forgetful.extract_each(items)
    first = client.extract_each(items)
    with Client(server.target, backbone="tiny-image", cache_control="no-cache") as distrustful:
        anew = distrustful.extract_each(items)
        streamed = dict(distrustful.iter_unordered(items))
    assert client.extract_each(items)[0].cached
    for outcomes in (unstored, first, anew, [streamed[i] for i in range(4)]):
        assert [one.cached for one in outcomes] == [False] * 4
        np.testing.assert_allclose([one.embedding for one in outcomes], [one.embedding for one in first], atol=1e-6)


def test_what_is_stored_comes_back_bit_for_bit_and_says_so(client: Client) -> None:
    items = [png(noise(1000 + seed)) for seed in range(10)]
    first, second = client.extract_each(items), client.extract_each(items)
    assert [outcome.cached for outcome in first] == [False] * 10
    assert [outcome.cached for outcome in second] == [True] * 10
    for one, other in zip(first, second, strict=True):
        assert one.embedding.tobytes() == other.embedding.tobytes()


def test_every_kind_of_item_is_taken(client: Client, tmp_path: Path) -> None:
    array = flat(10, 20, 30)
    (tmp_path / "a.png").write_bytes(png(array))
    items = [png(array), bytearray(png(array)), tmp_path / "a.png", array, Image.fromarray(array)]
    assert client.extract(items).tolist() == [[10, 20, 30]] * 5


def test_texts_are_taken_as_strings_or_bytes_and_cut_ones_are_named(client: Client) -> None:
    one, other, cut = client.extract_each(["red dog", b"red dog", "red " * 50], backbone="tiny-text")
    assert one.embedding.tobytes() == other.embedding.tobytes()
    assert [one.truncated, other.truncated, cut.truncated] == [False, False, True]


def test_no_items(client: Client) -> None:
    assert client.extract([]).shape == (0, 3)
    assert client.extract_each([]) == []


def test_each_bad_item_has_its_own_error_and_the_good_ones_are_answered(client: Client, tmp_path: Path) -> None:
    good = png(flat(1, 2, 3))
    jpeg = encoded(Image.fromarray(noise(0, 64)), "JPEG")
    items = [
        good,
        jpeg[: len(jpeg) // 2],
        bomb(20_000, 20_000),
        b"\0" * 5000,
        b"",
        b"x" * (16 * MIB + 1),
        tmp_path / "no",
        good,
    ]
    expected = [None, UndecodableItem, ItemTooLarge, UndecodableItem, EmptyItem, ItemTooLarge, UnreadableItem, None]
    begun = time.perf_counter()
    outcomes = client.extract_each(items)
    assert time.perf_counter() - begun < 5  # a bomb that were decoded would take longer
    assert [type(outcome.error) if outcome.error else None for outcome in outcomes] == expected
    messages = [str(outcome.error) for outcome in outcomes]
    for part, message in zip(
        [
            "cut short",
            "400,000,000 pixels, the limit is 67,108,864",
            "begin with",
            "0 bytes",
            "16,777,217 bytes, the limit",
        ],
        messages[1:6],
        strict=True,
    ):
        assert part in message
    assert outcomes[0].embedding.tolist() == outcomes[-1].embedding.tolist() == [1, 2, 3]
    text = client.extract_each(["red", "a" * (MIB + 1), b"\xff", " "], backbone="tiny-text")
    assert [type(outcome.error) for outcome in text] == [type(None), ItemTooLarge, UndecodableItem, EmptyItem]
    with pytest.raises(BackboneNotFound, match="'nope' is served here; there are: tiny-image, tiny-text"):
        client.extract([good], backbone="nope")


def test_the_server_itself_refuses_what_our_client_would_not_send(channel: grpc.Channel) -> None:
    stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
    request = pb.ExtractRequest(
        backbone=NAME, items=[pb.Item(data=b"x" * (16 * MIB + 1)), pb.Item(), pb.Item(data=png(flat(7)))]
    )
    large, empty, good = stub.Extract(request).outcomes
    assert (large.error.code, large.error.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "ItemTooLarge")
    assert (empty.error.code, empty.error.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "EmptyItem")
    assert good.row == 0

    with pytest.raises(grpc.RpcError) as many:
        stub.Extract(pb.ExtractRequest(backbone=NAME, items=[pb.Item(data=b"x")] * 1025))
    assert many.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1,025 items, the limit is 1,024" in many.value.details()
    assert ("headwater-reason", RequestTooLarge.__name__) in many.value.trailing_metadata()

    with pytest.raises(grpc.RpcError) as huge:
        stub.Extract(pb.ExtractRequest(backbone=NAME, items=[pb.Item(data=b"x" * (15 * MIB))] * 5))
    assert huge.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_request_that_names_no_backbone_among_several(server: ServerProcess, tiny_image: Path) -> None:
    with Client(server.target) as client, pytest.raises(BackboneNotNamed, match="tiny-image, tiny-text"):
        client.extract([b"x"])
    with serving(str(tiny_image)) as single, Client(single.target) as client:
        assert client.extract([png(flat(9))]).tolist() == [[9, 0, 0]]


def test_bad_requests_beside_good_ones_change_nothing_for_them(server: ServerProcess) -> None:
    def good(seed: int) -> None:
        with Client(server.target, backbone=NAME) as client:
            found.append(client.extract([flat(seed)] * 50)[0, 0] == seed)

    def bad() -> None:
        with Client(server.target) as client:
            for _ in range(20):
                with pytest.raises(BackboneNotFound):
                    client.extract([b"x"], backbone="nope")
            found.append(True)

    found: list[bool] = []
    threads = [threading.Thread(target=good, args=(seed,)) for seed in range(8)] + [threading.Thread(target=bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 9


def test_large_items_are_split_by_bytes(client: Client) -> None:
    large = [noise(seed, 1200) for seed in range(20)]  # 20 × 4.3 MB, more than one message may hold
    found = client.extract(large)
    np.testing.assert_allclose(found, [array.mean(axis=(0, 1)) for array in large], atol=2)


def test_the_client_keeps_to_the_servers_own_limits(tiny_image: Path) -> None:
    items = [noise(seed, 300) for seed in range(30)]  # 270 kB each
    options = ("--max-items", "10", "--max-message-mib", "1", "--max-item-mib", "1")
    with serving(str(tiny_image), *options) as server, Client(server.target) as client:
        assert client.extract(items).shape == (30, 3)


def test_no_server_is_a_service_error_not_a_hang() -> None:
    with Client("127.0.0.1:1", timeout_s=5) as client, pytest.raises(ServiceError) as caught:
        client.extract([b"x"])
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_backbones_are_listed(client: Client, tiny_image: Path) -> None:
    one, other = client.backbones()
    assert (one.name, one.modality, one.dim, one.precision, one.provider) == (NAME, "image", 3, "fp32", "cpu")
    assert (other.name, other.modality, other.dim) == ("tiny-text", "text", 4)
    assert one.request_limits.max_items == 1024


def test_health_is_told_by_the_standard_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "headwater.v1.ExtractorService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_foreign_client_needs_no_code_of_ours(channel: grpc.Channel) -> None:
    """As grpcurl does it: descriptors by reflection, messages made from them."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "headwater.v1.ExtractorService" in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("headwater.v1.ExtractorService").FindMethodByName("Extract")
    request_class = message_factory.GetMessageClass(method.input_type)
    response_class = message_factory.GetMessageClass(method.output_type)
    request = request_class(backbone=NAME)
    request.items.add(data=png(flat(1, 2, 3)))
    call = channel.unary_unary(
        "/headwater.v1.ExtractorService/Extract",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    response = call(request)
    assert np.frombuffer(response.embeddings, "<f4").tolist() == [1, 2, 3]
    assert len(response.fingerprint) == 32


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_under_both_of_its_names(channel: grpc.Channel, version: str) -> None:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (response,) = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name for service in response.list_services_response.service}
    assert {"headwater.v1.ExtractorService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names


def test_a_cancelled_call_leaves_the_server_well(server: ServerProcess, channel: grpc.Channel) -> None:
    stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
    for seed in range(20):
        items = [pb.Item(data=png(noise(5000 + 100 * seed + i))) for i in range(50)]
        stub.Extract.future(pb.ExtractRequest(backbone=NAME, items=items)).cancel()
    with Client(server.target, backbone=NAME) as client:
        assert client.extract([flat(77)]).tolist() == [[77, 0, 0]]
