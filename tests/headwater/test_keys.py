"""The file of keys, and the ring that keeps to it, without a server."""

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from headwater import keyring
from headwater.errors import KeyFileInvalid, KeyNotFound, KeyNotMade, Unauthenticated
from headwater.keyring import KeyRing
from headwater.keys import Role, add, read_keys, revoke

EXTRACT = [Role.EXTRACT]


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_one_check(self) -> None:
        self.now += keyring.CHECK_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "keys.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(path: Path, clock: Clock) -> Callable[[], KeyRing]:
    def loaded() -> KeyRing:
        one = KeyRing(path, clock=clock)
        one.load()
        return one

    return loaded


def secret_of(key: str) -> str:
    return key.split("_", 2)[2]


def test_a_key_opens_and_its_bounds_come_back(path: Path, ring: Callable[[], KeyRing]) -> None:
    text = add(path, "alice", [Role.EXTRACT, Role.TEACH], weight=2, items_per_s=100, max_calls=3)
    key = ring().find(text)
    assert (key.name, key.roles) == ("alice", {Role.EXTRACT, Role.TEACH})
    assert (key.weight, key.items_per_s, key.bucket_size, key.max_calls) == (2, 100, 100, 3)
    assert len(secret_of(text)) * 6 >= 192


def test_only_a_hash_is_kept_in_a_file_for_its_owner_alone(path: Path) -> None:
    text = add(path, "alice", EXTRACT)
    assert secret_of(text) not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {one.name for one in path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_whoever_could_read_the_file_still_can(path: Path) -> None:
    add(path, "alice", EXTRACT)
    path.chmod(0o640)
    owner = (os.geteuid(), os.getegid())
    if os.geteuid() == 0:  # as who adds keys for a server of another user
        owner = (54321, 54321)
        os.chown(path, *owner)
    revoke(path, "alice")
    facts = path.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o640, *owner)


@pytest.mark.parametrize(
    "spoil", ["", "hw", "hw_", "hw__", "nothing", "sk_{id}_{secret}", "hw_{id}_", "hw_00_{secret}"]
)
def test_what_is_no_key_is_refused_and_not_repeated(path: Path, ring: Callable[[], KeyRing], spoil: str) -> None:
    _, number, secret = add(path, "alice", EXTRACT).split("_", 2)
    with pytest.raises(Unauthenticated) as caught:
        ring().find(spoil.format(id=number, secret=secret))
    assert secret not in str(caught.value)


def test_a_wrong_secret_is_refused_as_an_unknown_key_is(path: Path, ring: Callable[[], KeyRing]) -> None:
    text = add(path, "alice", EXTRACT)
    with pytest.raises(Unauthenticated) as wrong:
        ring().find(text[:-1] + ("A" if text[-1] != "A" else "B"))
    with pytest.raises(Unauthenticated) as unknown:
        ring().find("hw_ffffffff_secret")
    assert str(wrong.value) == str(unknown.value)


def test_a_key_added_or_revoked_is_seen_at_the_next_look(path: Path, ring: Callable[[], KeyRing], clock: Clock) -> None:
    alice = add(path, "alice", EXTRACT)
    one = ring()
    bob = add(path, "bob", EXTRACT)
    revoke(path, "alice")
    assert one.find(alice).name == "alice"
    clock.pass_one_check()
    with pytest.raises(Unauthenticated, match=r"'alice'.* revoked on"):
        one.find(alice)
    assert one.find(bob).name == "bob"


def test_a_key_expires(path: Path, ring: Callable[[], KeyRing]) -> None:
    text = add(path, "alice", EXTRACT, expires_in=timedelta(days=-1))
    with pytest.raises(Unauthenticated, match=r"'alice'.* expired on"):
        ring().find(text)
    add(path, "alice", EXTRACT)  # its name is free again


def test_a_broken_file_leaves_the_former_keys_in_force(
    path: Path, ring: Callable[[], KeyRing], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    text = add(path, "alice", EXTRACT)
    one, good = ring(), path.read_bytes()
    path.write_bytes(good[:100])
    for _ in range(3):
        clock.pass_one_check()
        assert one.find(text).name == "alice"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1  # not one each second
    path.write_bytes(good.replace(b"alice", b"alicia"))
    clock.pass_one_check()
    assert one.find(text).name == "alicia"


def test_a_file_that_could_not_be_read_is_read_once_its_mode_is_mended(
    path: Path, ring: Callable[[], KeyRing], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise KeyFileInvalid(f"cannot read {path}")

    text = add(path, "alice", EXTRACT)
    one = ring()
    revoke(path, "alice")
    with monkeypatch.context() as patch:  # as for root, who runs the tests, no mode makes it so
        patch.setattr(keyring, "read_keys", unreadable)
        clock.pass_one_check()
        assert one.find(text).name == "alice"
    path.chmod(0o644)
    clock.pass_one_check()
    with pytest.raises(Unauthenticated, match="revoked"):
        one.find(text)


def test_a_file_that_is_gone_refuses_all_until_it_is_back(
    path: Path, ring: Callable[[], KeyRing], clock: Clock
) -> None:
    text = add(path, "alice", EXTRACT)
    one, aside = ring(), path.with_name("aside")
    path.rename(aside)
    clock.pass_one_check()
    with pytest.raises(Unauthenticated):
        one.find(text)
    aside.rename(path)
    clock.pass_one_check()
    assert one.find(text).name == "alice"


def test_a_certificates_name_stands_for_its_key(path: Path, ring: Callable[[], KeyRing], clock: Clock) -> None:
    add(path, "alice", EXTRACT)
    one = ring()
    assert one.named("alice").name == "alice"
    with pytest.raises(Unauthenticated, match="'bob'"):
        one.named("bob")
    revoke(path, "alice")
    clock.pass_one_check()
    with pytest.raises(Unauthenticated, match="revoked"):
        one.named("alice")


def test_a_key_is_revoked_by_name_or_id_once(path: Path) -> None:
    add(path, "alice", EXTRACT)
    number = add(path, "bob", EXTRACT).split("_")[1]
    assert revoke(path, "alice").name == "alice"
    assert revoke(path, number).name == "bob"
    for again in ("alice", number, "carol"):
        with pytest.raises(KeyNotFound, match=again):
            revoke(path, again)


@pytest.mark.parametrize(
    ("name", "roles", "bounds", "words"),
    [
        ("alice", EXTRACT, {}, "already"),
        ("", EXTRACT, {}, "printable"),
        ("a\nb", EXTRACT, {}, "printable"),
        ("bob", [], {}, "role"),
        ("bob", EXTRACT, {"weight": 0.0}, "weight"),
        ("bob", EXTRACT, {"weight": float("nan")}, "weight"),
        ("bob", EXTRACT, {"items_per_s": -1.0}, "items_per_s"),
        ("bob", EXTRACT, {"burst": 5}, "--items-per-s"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(path: Path, name: str, roles: list, bounds: dict, words: str) -> None:
    add(path, "alice", EXTRACT)
    before = path.read_bytes()
    with pytest.raises(KeyNotMade, match=words):
        add(path, name, roles, **bounds)
    assert path.read_bytes() == before


ENTRY = {"id": "0a", "name": "a", "digest": "0" * 64, "roles": ["extract"], "created": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 2, "keys": []}', "format 2, this Headwater reads up to 1"),
        ('{"format": "1", "keys": []}', "format"),
        ("[]", "no file of keys"),
        ("\xff", "no file of keys"),
        ('{"keys": []}', "no file of keys"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "roles": ["king"]}]}), "king"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "weight": 0}]}), "above 0"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "weight": "much"}]}), "no file of keys"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "weight": "2"}]}), "no number above 0"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "items_per_s": 0}]}), "no number above 0"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "max_calls": True}]}), "no number above 0"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "name": 3}]}), "texts"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "created": "2026-01-01"}]}), "time zone"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "colour": "red"}]}), "colour"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "digest": "é" * 64}]}), "no file of keys"),
        (json.dumps({"format": 1, "keys": [{**ENTRY, "digest": "00"}]}), "SHA-256"),
        (json.dumps({"format": 1, "keys": ["hello"]}), "no file of keys"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(KeyFileInvalid, match=words):
        read_keys(path)


def test_a_file_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(KeyFileInvalid, match="headwater keys add"):
        read_keys(tmp_path / "none.json")
    with pytest.raises(KeyFileInvalid):
        revoke(tmp_path / "none.json", "alice")
    assert not list(tmp_path.iterdir())


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    link, real = tmp_path / "link.json", tmp_path / "real" / "keys.json"
    add(real, "alice", EXTRACT)
    link.symlink_to(real)
    add(link, "bob", EXTRACT)
    assert link.is_symlink()
    assert [key.name for key in read_keys(real)] == ["alice", "bob"]


def test_of_two_processes_that_add_at_once_neither_undoes_the_other(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from headwater.keys import Role, add
for i in range(10):
    add(Path(sys.argv[1]), f"{sys.argv[2]}-{i}", [Role.EXTRACT])
"""
    both = [subprocess.Popen([sys.executable, "-c", code, str(path), name], env=os.environ) for name in "ab"]
    assert [one.wait(60) for one in both] == [0, 0]
    assert {key.name for key in read_keys(path)} == {f"{name}-{i}" for name in "ab" for i in range(10)}
