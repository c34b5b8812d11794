"""TLS and mTLS over a real port, with certificates that change while the server runs."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from extractor import Extractor
from headwater import Client, keyring, tls
from headwater.channel import Access, open_aio_channel, open_channel, options_for
from headwater.errors import CredentialsInvalid, PermissionDenied, ServerNotStarted
from headwater.keys import Role, add, revoke
from headwater.server import ServerSettings, check
from headwater.tls import TlsFiles
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests import certificates
from tests.certificates import Authority
from tests.inprocess import InProcess, in_this_process
from tests.tiny import flat


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, trustme.CA())


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path, trustme.CA())


@pytest.fixture
def served(tiny_image: Path) -> Callable[..., AbstractContextManager[InProcess]]:
    return lambda **settings: in_this_process(
        {"tiny-image": Extractor.load(tiny_image, workers=1)}, ServerSettings(port=0, **settings)
    )


def asks(address: str, **access: Any) -> str:
    """Say how a call ends that a new connection makes, once."""
    own = Access(**access)
    with open_channel(address, own, [("grpc.enable_retries", 0)]) as channel:
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        try:
            stub.GetBackbone(pb.GetBackboneRequest(), timeout=10, metadata=own.metadata())
        except grpc.RpcError as error:
            return error.code().name
    return "answered"


def test_only_the_authority_that_vouches_for_the_server_will_do(
    served: Callable, authority: Authority, other: Authority
) -> None:
    with served(tls=authority.server()) as server:
        with Client(server.address, ca=authority.path) as client:
            assert client.extract([flat(7)])[:, 0].tolist() == [7]
        assert asks(server.address, ca=other.path) == "UNAVAILABLE"
        assert asks(server.address, ca="system") == "UNAVAILABLE"
        assert asks(server.address) == "UNAVAILABLE"  # without TLS


def test_a_certificate_is_replaced_without_a_restart(served: Callable, authority: Authority, other: Authority) -> None:
    with served(tls=authority.server()) as server, Client(server.address, ca=authority.path) as connected:
        connected.extract([flat(1)])
        other.server()
        assert asks(server.address, ca=authority.path) == "UNAVAILABLE"
        assert asks(server.address, ca=other.path) == "answered"
        assert connected.extract([flat(2)])[:, 0].tolist() == [2]  # open connections are not cut


def test_a_broken_or_mismatched_new_certificate_is_not_taken(
    served: Callable, authority: Authority, other: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.server()
    good = files.cert.read_bytes()
    with served(tls=files) as server:
        for broken in (b"", b"no certificate", other.server("else").cert.read_bytes()):
            files.cert.write_bytes(broken)
            assert asks(server.address, ca=authority.path) == "answered"
        files.cert.unlink()
        assert asks(server.address, ca=authority.path) == "answered"
        files.cert.write_bytes(good)
        assert asks(server.address, ca=authority.path) == "answered"
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) >= 4
    assert all("former certificate" in error for error in errors)


def test_a_key_that_could_not_be_read_is_read_once_its_mode_is_mended(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(files: TlsFiles) -> None:
        raise PermissionError(13, "Permission denied", str(files.key))

    files = authority.server()
    certificates = tls.Certificates(files)
    certificates.load()
    files.key.touch()
    with monkeypatch.context() as patch:  # as for root, who runs the tests, no mode makes it so
        patch.setattr(tls, "_read", unreadable)
        assert certificates.renewed() is None
    assert certificates.renewed() is None  # not at each handshake
    files.key.chmod(0o640)
    assert certificates.renewed() is not None


def test_with_client_authorities_every_client_needs_a_certificate_and_no_key(
    served: Callable, authority: Authority, other: Authority
) -> None:
    with served(tls=authority.server(client_ca=authority.path)) as server:
        assert asks(server.address, ca=authority.path, **authority.client("alice")) == "answered"
        assert asks(server.address, ca=authority.path) == "UNAVAILABLE"
        assert asks(server.address, ca=authority.path, **other.client("mallory")) == "UNAVAILABLE"


def test_client_authorities_are_replaced_without_a_restart(
    served: Callable, authority: Authority, other: Authority, tmp_path: Path
) -> None:
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(authority.path.read_bytes())
    alice, bob = authority.client("alice"), other.client("bob")
    with served(tls=authority.server(client_ca=bundle)) as server:
        assert asks(server.address, ca=authority.path, **bob) == "UNAVAILABLE"
        bundle.write_bytes(other.path.read_bytes())
        assert asks(server.address, ca=authority.path, **bob) == "answered"
        assert asks(server.address, ca=authority.path, **alice) == "UNAVAILABLE"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look at the file of keys before each call."""
    monkeypatch.setattr(keyring, "CHECK_S", 0.0)
    yield


def test_a_certificate_stands_for_the_key_of_its_name(
    served: Callable, authority: Authority, tmp_path: Path, eager: None
) -> None:
    keys = tmp_path / "keys.json"
    add(keys, "alice", [Role.EXTRACT])
    viewer = add(keys, "viewer", [Role.CLASSIFY])
    alice, nobody = authority.client("alice"), authority.client("nobody")
    with served(tls=authority.server(client_ca=authority.path), keys=keys) as server:
        with Client(server.address, ca=authority.path, **alice) as client:
            client.extract([flat(1)])
        assert asks(server.address, ca=authority.path, **nobody) == "UNAUTHENTICATED"
        with Client(server.address, ca=authority.path, key=viewer, **alice) as client, pytest.raises(PermissionDenied):
            client.extract([flat(1)])  # a key that is sent goes before the certificate
        revoke(keys, "alice")
        assert asks(server.address, ca=authority.path, **alice) == "UNAUTHENTICATED"


def test_keys_travel_over_tls(served: Callable, authority: Authority, tmp_path: Path) -> None:
    key = add(tmp_path / "keys.json", "alice", [Role.EXTRACT])
    with served(tls=authority.server(), keys=tmp_path / "keys.json") as server:
        with Client(server.address, ca=authority.path, key=key) as client:
            assert client.extract([flat(3)])[:, 0].tolist() == [3]
        assert asks(server.address, ca=authority.path) == "UNAUTHENTICATED"


def test_a_channel_for_asyncio_brings_the_same(served: Callable, authority: Authority, tmp_path: Path) -> None:
    async def names(target: str, access: Access) -> list[str]:
        async with open_aio_channel(target, access) as channel:
            stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
            answer = await stub.ListBackbones(pb.ListBackbonesRequest(), timeout=10, metadata=access.metadata())
            return [one.name for one in answer.backbones]

    key = add(tmp_path / "keys.json", "alice", [Role.EXTRACT])
    with served(tls=authority.server(), keys=tmp_path / "keys.json") as server:
        assert asyncio.run(names(server.address, Access(key=key, ca=authority.path))) == ["tiny-image"]
    with served(keys=tmp_path / "keys.json") as server:
        assert asyncio.run(names(server.address, Access(key=key))) == ["tiny-image"]


def test_no_proxy_stands_between_this_machine_and_itself(served: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody there
    with served() as server:
        assert asks(server.address) == "answered"


@pytest.mark.parametrize(
    ("target", "is_here"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("10.0.0.1:50051", False),
        ("server.example.org:50051", False),
    ],
)
def test_other_targets_may_have_a_proxy(target: str, is_here: bool) -> None:
    assert (("grpc.enable_http_proxy", 0) in options_for(target)) is is_here


def encrypted(files: TlsFiles) -> TlsFiles:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(files.key.read_bytes(), None)
    locked = form.BestAvailableEncryption(b"password")
    files.key.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    return files


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files, _: replace(files, cert=Path("nowhere.pem")), "cannot read nowhere.pem"),
        (lambda files, _: replace(files, key=Path("nowhere.key")), "cannot read nowhere.key"),
        (lambda files, _: replace(files, client_ca=Path("nowhere.pem")), "cannot read nowhere.pem"),
        (lambda files, other: replace(files, key=other.key), "its own private key"),
        (lambda files, _: replace(files, client_ca=files.key), "PEM"),
        (lambda files, _: encrypted(files), "not encrypted"),
    ],
)
def test_certificates_that_cannot_serve_are_named_before_anything_starts(
    authority: Authority, other: Authority, spoil: Callable, words: str
) -> None:
    files = spoil(authority.server(), other.server("else"))
    with pytest.raises(ServerNotStarted, match=words):
        check(ServerSettings(tls=files))


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_client_authorities_that_are_none_are_named(authority: Authority, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(ServerNotStarted, match="PEM"):
        check(ServerSettings(tls=authority.server(client_ca=path)))


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"key": ""}, "key"),
        ({"key": "hw_1_ä"}, "key"),
        ({"key": "hw_1_a\nb"}, "key"),
        ({"ca": "nowhere.pem"}, "cannot read nowhere.pem"),
        ({"ca": certificates.__file__}, "PEM"),
        ({"cert": "one.pem"}, "both"),
        ({"cert_key": "one.key"}, "both"),
    ],
)
def test_what_a_client_cannot_use_is_named(access: dict, words: str) -> None:
    with pytest.raises(CredentialsInvalid, match=words) as caught:
        Client("127.0.0.1:1", **access)
    assert "hw_" not in str(caught.value)


def serve_command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headwater", "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "headwater keys add"),  # noqa: S104  # it is refused
        (["--tls-cert", "one.pem"], "--tls-cert and --tls-key"),
        (["--tls-client-ca", "one.pem"], "--tls-cert and --tls-key"),
        (["--keys", "nowhere.json"], "headwater keys add NAME --file nowhere.json"),
    ],
)
def test_the_command_says_what_to_do(tiny_image: Path, arguments: list, words: str) -> None:
    done = serve_command(tiny_image, "--port", 0, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
