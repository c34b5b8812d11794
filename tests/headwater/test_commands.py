"""The commands, run as a user runs them."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import trustme

from extractor import Extractor
from headwater import Client
from headwater.process import ServerProcess, serving
from tests.certificates import Authority
from tests.tiny import flat, png, write_tiny_image

COMMANDS = (
    *(
        "demo",
        "zoo",
        "export",
        "layers",
        "backbones",
        "tune",
        "serve",
        "top",
        "dashboard",
        "extract",
        "dump",
        "train",
        "predict",
        "fuse",
    ),
    *("heads activate", "heads delete", "heads export"),
    *("map", "near", "dupes", "drift", "index"),
    *("admin load", "keys add", "keys list", "keys revoke"),
    *(f"cache {verb}" for verb in ("stats", "check", "purge", "export", "import")),
)


def headwater(*arguments: object, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "200", **({"HEADWATER_HOME": str(home)} if home else {})}
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(png(flat(i)))
    return paths


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = headwater(*command.split(), "--help")
    assert done.returncode == 0
    assert f"headwater {command}" in done.stdout.split("Example:")[1]


def test_the_installed_script_is_the_same_command() -> None:
    script = Path(sys.executable).with_name("headwater")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert all(command.split()[0] in done.stdout for command in COMMANDS)


def test_files_become_rows_and_a_list_of_them(files: list[Path], tiny_image: Path, tmp_path: Path) -> None:
    done = headwater("extract", *files, "--backbone", tiny_image, "--out", tmp_path / "X.npy")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "X.npy").tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert (tmp_path / "X.npy.txt").read_text().splitlines() == [str(path) for path in files]


def test_what_was_extracted_is_there_for_a_script_and_a_server(
    files: list[Path], tiny_image: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    done = headwater("extract", *files, "--backbone", tiny_image, "--out", tmp_path / "X.npy", "--cache", cache)
    assert done.returncode == 0, done.stderr
    with Extractor.load(tiny_image, cache=cache) as extractor:
        here = extractor.extract_each(files)
    with serving(str(tiny_image), "--cache", cache) as server, Client(server.target) as client:
        there = client.extract_each(files)
    for outcomes in (here, there):
        assert all(one.cached for one in outcomes)
        np.testing.assert_array_equal([one.embedding for one in outcomes], np.load(tmp_path / "X.npy"))


def test_a_bad_file_is_named_and_the_others_are_done(files: list[Path], tiny_image: Path, tmp_path: Path) -> None:
    files[1].write_bytes(b"no image")
    done = headwater("extract", *files, tmp_path / "gone.png", "--backbone", tiny_image, "--out", tmp_path / "X.npy")
    assert done.returncode == 1
    assert f"{files[1]}: no JPEG" in done.stderr
    assert "gone.png: cannot read" in done.stderr
    assert "2 of 4 files failed" in done.stderr
    assert np.load(tmp_path / "X.npy")[:, 0].tolist() == [0, 2]
    assert (tmp_path / "X.npy.txt").read_text().splitlines() == [str(files[0]), str(files[2])]


def test_a_running_server_gives_the_same(files: list[Path], server: ServerProcess, tmp_path: Path) -> None:
    target = tmp_path / "X.npy"
    done = headwater("extract", *files, "--server", server.target, "--backbone", "tiny-image", "--out", target)
    assert done.returncode == 0, done.stderr
    assert np.load(target).tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]


def test_where_it_cannot_write_is_said_before_the_work(files: list[Path], tiny_image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bad = tmp_path / "gone.png"
    done = headwater("extract", bad, "--backbone", tiny_image, "--out", tmp_path / "file" / "X.npy")
    assert done.returncode == 1
    assert f"cannot write {tmp_path / 'file' / 'X.npy'}" in done.stderr
    assert str(bad) not in done.stderr
    assert "it is a folder" in headwater("extract", *files, "--backbone", tiny_image, "--out", tmp_path).stderr
    done = headwater("extract", *files, "--backbone", tiny_image, "--out", tmp_path / "new" / "folder" / "X.npy")
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_written_after_the_work_is_told_of(files: list[Path], tiny_image: Path, tmp_path: Path) -> None:
    (tmp_path / "X.npy.txt").mkdir()
    done = headwater("extract", *files, "--backbone", tiny_image, "--out", tmp_path / "X.npy")
    assert done.returncode == 1
    assert f"error: cannot write {tmp_path / 'X.npy.txt'}: Is a directory" in done.stderr
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("here", [True, False])
def test_progress_is_shown_on_a_terminal_alone(
    files: list[Path], server: ServerProcess, tiny_image: Path, here: bool
) -> None:
    where = ("--backbone", tiny_image) if here else ("--server", server.target, "--backbone", "tiny-image")
    assert headwater("extract", *files, *where).stderr == ""
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "headwater", "extract", *map(str, (*files, *where))]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with os.fdopen(master, "rb", 0) as screen:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env=environment)
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how a terminal ends
            while more := screen.read(4096):
                shown += more
        assert process.wait(60) == 0
    assert b"extracting" in shown
    assert b"100%" in shown


def test_without_out_each_file_has_a_line(files: list[Path], tiny_image: Path) -> None:
    done = headwater("extract", *files, "--backbone", tiny_image)
    assert f"{files[2]}: 3-d, length 2.0000, begins 2.0000 0.0000 0.0000" in done.stdout


def test_a_single_installed_backbone_needs_no_name(files: list[Path], tiny_image: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny_image, home / "backbones" / "tiny-image")
    assert headwater("extract", files[0], home=home).returncode == 0
    shutil.copytree(tiny_image, home / "backbones" / "another")
    done = headwater("extract", files[0], home=home)
    assert done.returncode == 1
    assert "another, tiny-image; name one with --backbone" in done.stderr


def test_backbones_lists_what_is_installed_and_says_what_is_wrong(tiny_image: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "headwater export efficientnet-lite0" in headwater("backbones", home=home).stdout
    shutil.copytree(tiny_image, home / "backbones" / "tiny-image")
    (home / "backbones" / "broken").mkdir()
    (home / "backbones" / "broken" / "spec.json").write_text("{}")
    done = headwater("backbones", home=home)
    with Extractor.load(tiny_image) as extractor:
        for fact in ("tiny-image", "image", "3", "fp32", extractor.fingerprint, "cpu", "MiB"):
            assert fact in done.stdout
    assert "not served" in done.stdout


def test_the_admin_changes_what_is_served(server: ServerProcess, home: Path) -> None:
    write_tiny_image(home / "backbones" / "third")

    def admin(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return headwater("admin", *arguments, "--server", server.target)

    try:
        done = admin("load", "third")
        assert done.returncode == 0, done.stderr
        assert "now serves third: cpu, fingerprint" in done.stdout
        status = admin("status").stdout
        assert all(word in status for word in ("tiny-image", "tiny-text", "third", "serving", "up; running calls: 0"))
        assert all(word in status for word in ("disk", "ok", "8,192.0 MiB"))
        assert "replaced third" in admin("replace", "third").stdout
        assert "no longer serves third" in admin("unload", "third").stdout
    finally:
        shutil.rmtree(home / "backbones" / "third")
    done = admin("load", "../third")
    assert done.returncode == 1
    assert "no path" in done.stderr


def test_backbones_of_a_server(server: ServerProcess) -> None:
    done = headwater("backbones", "--server", server.target)
    assert "tiny-image" in done.stdout
    assert "tiny-text" in done.stdout


def test_serve_with_no_backbone_prints_the_next_command(tmp_path: Path) -> None:
    done = headwater("serve", home=tmp_path)
    assert done.returncode == 1
    assert "make one: headwater export efficientnet-lite0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_none_is_refused(tiny_image: Path) -> None:
    done = headwater("serve", tiny_image, "--port", 70_000)
    assert done.returncode == 2
    assert "65535" in done.stderr


def test_a_metrics_port_that_is_taken_is_told_before_a_backbone_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = headwater("serve", "missing", "--port", 0, "--metrics-port", taken.getsockname()[1], home=tmp_path)
    assert done.returncode != 0
    assert "cannot listen for metrics" in done.stderr


def test_an_installed_backbone_that_names_itself_otherwise_is_refused(tmp_path: Path) -> None:
    write_tiny_image(tmp_path / "backbones" / "tiny-image").rename(tmp_path / "backbones" / "other")
    done = headwater("serve", "other", "--port", 0, home=tmp_path)
    assert done.returncode != 0
    assert "'other' calls itself 'tiny-image'" in done.stderr


def test_a_backbone_is_served_once(tiny_image: Path) -> None:
    done = headwater("serve", tiny_image, tiny_image, "--port", 0)
    assert done.returncode == 1
    assert "two backbones are named 'tiny-image'" in done.stderr


def test_errors_are_one_line_and_code_one(tmp_path: Path) -> None:
    for arguments, message in (
        (("serve", "nope"), "no backbone 'nope'"),
        (("serve", "--max-item-mib", "100"), "an item of 100 MiB does not fit a message of 64 MiB"),
        (("export", "nope"), "no built-in backbone 'nope'"),
        (("backbones", "--server", "127.0.0.1:1"), "UNAVAILABLE"),
    ):
        done = headwater(*arguments, home=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
        assert message in done.stderr


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_the_demo_ends_well(tmp_path: Path, home: Path, backbones: Path) -> None:
    command = [sys.executable, "-m", "headwater", "demo", "--out", tmp_path / "shown"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert "1,797 of 1,797" in done.stdout
    assert np.load(tmp_path / "shown" / "efficientnet-lite0.npy").shape == (1797, 1280)
    assert (tmp_path / "shown" / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_a_server_of_ones_own_is_not_set_up_by_the_environment(
    tiny_image: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEYS", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "CA", "CERT", "CERT_KEY", "HOST", "METRICS_PORT"):
        monkeypatch.setenv(f"HEADWATER_{name}", str(tmp_path / "of-another-server"))
    with serving(str(tiny_image)) as server, Client(server.target) as client:
        assert client.extract(files)[:, 0].tolist() == [0, 1, 2]


def test_the_demo_says_that_it_cannot_make_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = headwater("demo", "--out", tmp_path / "file", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: cannot write to {tmp_path / 'file'}: File exists; choose another --out\n"


def test_keys_are_added_listed_and_revoked_and_shown_once(tmp_path: Path) -> None:
    made = headwater("keys", "add", "alice", "--role", "extract", "--items-per-s", "5", home=tmp_path)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip().split("_", 2)[2]
    assert secret not in made.stderr
    listed = headwater("keys", "list", home=tmp_path)
    assert "alice" in listed.stdout
    assert "5 items/s, 64 at once" in listed.stdout
    revoked = headwater("keys", "revoke", "alice", home=tmp_path)
    assert revoked.returncode == 0, revoked.stderr
    assert "revoked" in headwater("keys", "list", home=tmp_path).stdout
    assert all(secret not in done.stdout + done.stderr for done in (listed, revoked))
    assert headwater("keys", "add", "bob", "--role", "extract", "--expires-days", "0", home=tmp_path).returncode == 2
    path = tmp_path / "[" / f"b]{'long' * 50}.json"  # neither markup nor broken over lines
    made = headwater("keys", "add", "bob", "--role", "extract", "--file", path)
    assert made.stderr.endswith(f"headwater serve --keys {path}\n")
    again = headwater("keys", "revoke", "alice", home=tmp_path)
    assert again.returncode == 1
    assert "error:" in again.stderr


def test_the_commands_take_keys_and_tls(tiny_image: Path, files: list[Path], tmp_path: Path) -> None:
    authority = Authority(tmp_path, trustme.CA())
    tls, keys = authority.server(), tmp_path / "keys.json"
    key = headwater("keys", "add", "alice", "--role", "extract", "--file", keys).stdout.strip()
    options = ("--keys", keys, "--tls-cert", tls.cert, "--tls-key", tls.key)
    with serving(str(tiny_image), *map(str, options)) as server:
        to_server = ("--server", server.target, "--ca", authority.path)
        done = headwater("extract", *files, *to_server, "--key", key, "--out", tmp_path / "X.npy")
        assert done.returncode == 0, done.stderr
        assert np.load(tmp_path / "X.npy")[:, 0].tolist() == [0, 1, 2]
        assert "tiny-image" in headwater("backbones", *to_server, "--key", key).stdout
        refused = headwater("backbones", *to_server)
        assert refused.returncode == 1
        assert "error: this server asks for a key" in refused.stderr
