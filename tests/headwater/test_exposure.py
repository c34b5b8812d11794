import pytest

from headwater.errors import ServerNotStarted
from headwater.exposure import check_exposure, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.1", "*"])  # noqa: S104
def test_others_reach_it(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "keys", "tls", "certificates", "open_to_all", "note"),
    [
        ("127.0.0.1", False, False, False, False, "this machine only"),
        ("127.0.0.1", False, True, False, False, "this machine only"),
        ("127.0.0.1", True, False, False, False, None),
        ("10.0.0.1", True, False, False, False, "in clear"),
        ("10.0.0.1", True, True, False, False, None),
        ("10.0.0.1", False, True, True, False, None),
        ("10.0.0.1", False, False, False, True, "whoever reaches 10.0.0.1"),
        ("10.0.0.1", False, True, False, True, "whoever reaches 10.0.0.1"),
    ],
)
def test_what_the_operator_is_told(
    host: str, keys: bool, tls: bool, certificates: bool, open_to_all: bool, note: str | None
) -> None:
    told = check_exposure(host, keys=keys, tls=tls, client_certificates=certificates, open_to_all=open_to_all)
    assert told == "" if note is None else note in told


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_asks_for_nothing_stays_on_this_machine(tls: bool) -> None:
    with pytest.raises(ServerNotStarted, match=r"headwater keys add.*--open-to-all"):
        check_exposure("10.0.0.1", keys=False, tls=tls, client_certificates=False, open_to_all=False)
