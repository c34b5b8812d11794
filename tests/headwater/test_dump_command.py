"""`headwater dump`, run as a user runs it: here, by servers, by servers that die, and until it is told to stop."""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from extractor import Extractor
from extractor.dump import check, dump
from extractor.dump.counts import Counts
from extractor.dump.manifest import read_manifest
from extractor.errors import BackboneChanged, BackboneNotFound, NotServing
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.sources import open_source
from headwater import Client
from headwater.cli import main
from headwater.dumps import facts, is_dump, read
from headwater.errors import DumpInvalid, ServiceError
from headwater.process import ServerProcess
from headwater.server import ServerSettings
from headwater.spread import Spread
from tests.inprocess import in_this_process
from tests.tiny import flat, png, write_tiny_image

N_PHOTOS = 40


class Done(NamedTuple):
    """What a command gave."""

    returncode: int
    stdout: str
    stderr: str


Headwater = Callable[..., Done]


@pytest.fixture
def headwater(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headwater:
    """The command, in this process: it is the same, and begins at once."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["headwater", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "headwater", *map(str, arguments)]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {"PATH": "/usr/bin:/bin", "COLUMNS": "200", "HEADWATER_CACHE": "off", "PYTHONPATH": root}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(N_PHOTOS):
        path = tmp_path / "photos" / f"{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(flat(i, 1, 2)) if i != 7 else b"broken")
    return tmp_path / "photos"


def table(out: Path) -> list[dict]:
    return pq.read_table(sorted(glob.glob(f"{out}/part-*.parquet"))).to_pylist()


def assert_all_there(out: Path) -> None:
    rows = table(out)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    assert len(rows) == N_PHOTOS
    for row in rows:
        number = int(row["key"][-7:-4])
        assert row["embedding"] == ([number, 1, 2] if number != 7 else None)
        assert (row["error"] is None) == (number != 7)
    assert check(out).problems == ()


def test_a_dump_a_check_and_a_retry(headwater: Headwater, photos: Path, tiny_image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = headwater("dump", photos, out, "--backbone", tiny_image, "--npy")
    assert done.returncode == 0, done.stderr
    assert "39 embeddings (0 from the cache) and 1 error" in done.stdout
    assert "errors: 1 UndecodableItem" in done.stdout
    assert "inference" in done.stdout and "waited" in done.stdout
    assert np.load(out / "embeddings.npy").shape == (39, 3)
    assert_all_there(out)
    done = headwater("dump", "--check", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert "40 rows, 1 error among them, in 1 shard, tiny-image" in done.stdout
    (photos / "1/007.png").write_bytes(png(flat(7, 1, 2)))
    done = headwater("dump", "--retry-errors", out, "--backbone", tiny_image)
    assert done.returncode == 0, done.stderr
    assert "1 item asked for again: 1 has an embedding now, 0 failed again" in done.stdout
    assert not [row for row in table(out) if row["error"]]
    shard = next(out.glob("part-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    done = headwater("dump", "--check", out)
    assert done.returncode == 1
    assert "another checksum" in done.stderr


def test_a_retry_of_a_dump_carries_along_what_the_dump_did(
    headwater: Headwater, tiny_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("sentence,n\nred cat,1\nblue dog,2\n")
    out, backbone = tmp_path / "out", ["--backbone", tiny_text]
    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "load", partial(Extractor.load, limits=Limits(max_item_bytes=7)))
        done = headwater("dump", tmp_path / "t.csv", out, *backbone, "--item-column", "sentence", "--carry-text")
    assert "1 ItemTooLarge" in done.stdout, done.stderr
    done = headwater("dump", "--retry-errors", out, *backbone)
    assert "1 has an embedding now" in done.stdout, done.stderr
    assert [(row["text"], row["n"], row["error"]) for row in table(out)] == [
        ("red cat", "1", None),
        ("blue dog", "2", None),
    ]


def test_what_cannot_be_is_told_in_a_line(headwater: Headwater, photos: Path, tiny_image: Path, tmp_path: Path) -> None:
    done = headwater("dump", photos)
    assert done.returncode == 2 and "name SOURCE and OUT" in done.stderr
    done = headwater("dump", "--check", "--retry-errors", tmp_path)
    assert done.returncode == 2 and "name --check or --retry-errors, not both" in done.stderr
    done = headwater("dump", tmp_path / "nothing", tmp_path / "out", "--backbone", tiny_image)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--check", "--npy", "--pattern", "*.png"), "--pattern, --npy would be ignored: --check reads OUT alone"),
        (("--retry-errors", "--dtype", "float16"), "--dtype would be ignored: --retry-errors keeps the precision"),
        (("--retry-errors", "--pattern", "*.png"), "--pattern would be ignored: OUT says how its source is read"),
        (("--retry-errors", "--moved"), "--moved would be ignored: no SOURCE is named"),
        (("out", "--key", "k", "--ca", "c"), "--key, --ca would be ignored: no --server is named"),
        (("out", "--server", "a:1", "--cache", "off"), "--cache would be ignored: a server keeps what it embeds"),
        (("out", "--item-column", "a", "--path-column", "b"), "name --item-column or --path-column, not both"),
        (("out", "--dtype", "int8"), "--dtype is 'int8'; take float32 or float16"),
        (("s3://bucket/out",), "OUT is s3:/bucket/out, and a dump is written to a folder of this machine"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    headwater: Headwater, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_KEY", "for other commands")
    done = headwater("dump", "photos", *arguments)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_the_server_of_the_environment_yields_to_ray_and_is_named_where_it_does_not_yield(
    headwater: Headwater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SERVER", "127.0.0.1:1")
    done = headwater("dump", "photos", "out", "--ray", "--item-column", "a", "--path-column", "b")
    assert "name --item-column or --path-column, not both" in done.stderr
    done = headwater("dump", "photos", "out", "--cache", "off")
    assert "--cache would be ignored: HEADWATER_SERVER names a server, which keeps what it embeds" in done.stderr


def test_a_dump_goes_on_with_its_own_backbone(
    headwater: Headwater,
    photos: Path,
    tiny_image: Path,
    tiny_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, home = tmp_path / "my out", tmp_path / "home" / "backbones"
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADWATER_CACHE", "off")
    home.mkdir(parents=True)
    for one in (tiny_text, tiny_image):
        (home / one.name).symlink_to(one)
    done = headwater("dump", photos, out)
    assert "several backbones are installed" in done.stderr
    done = headwater("dump", photos, out, "--backbone", "tiny-image")
    assert "1 UndecodableItem; the first is 1/007.png: no JPEG" in done.stdout, done.stderr
    assert f"headwater dump --retry-errors '{out}'" in done.stdout
    done = headwater("dump", photos, out)
    assert "40 were there before" in done.stdout
    assert "1 row that was there before has an error" in done.stdout
    (photos / "1/007.png").write_bytes(png(flat(7)))
    assert "1 has an embedding now" in headwater("dump", "--retry-errors", out).stdout
    assert "has an error, so there is nothing to ask for again" in headwater("dump", "--retry-errors", out).stdout
    (home / tiny_image.name).rename(home / "elsewhere")
    done = headwater("dump", photos, out)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the dump is of the backbone 'tiny-image', which is not installed here, only" in done.stderr


def test_a_source_that_has_nothing_is_told_of(headwater: Headwater, photos: Path, tiny_image: Path) -> None:
    out, backbone = photos.parent / "out", ("--backbone", tiny_image, "--cache", "off")
    done = headwater("dump", photos, out, "--pattern", "*.jpeg", *backbone)
    assert "photos, of files that are like '*.jpeg', has no item; is it what was meant?" in done.stdout
    assert "40 rows" in headwater("dump", photos, out, *backbone).stdout
    done = headwater("dump", photos, photos.parent / "away", "--server", "127.0.0.1:1")
    assert "nobody answers at 127.0.0.1:1" in done.stderr and "start a server there" in done.stderr


def test_a_list_on_stdin_in_half_precision(
    photos: Path, tiny_image: Path, extractor: Extractor, tmp_path: Path
) -> None:
    names = "0/000.png\n1/001.png\n0/lost.png\n"
    whole = command("dump", "-", tmp_path / "out", "--backbone", tiny_image, "--dtype", "float16")
    done = subprocess.run(whole, capture_output=True, text=True, env=environment(), input=names, cwd=photos)
    assert done.returncode == 0, done.stderr
    assert [row["key"] for row in table(tmp_path / "out")] == names.splitlines()
    assert table(tmp_path / "out")[1]["embedding"] == [1, 1, 2]
    more = open_source("-", stdin=[*names.splitlines(), str(photos / "1/003.png")])
    counts = dump(more, tmp_path / "out", extractor)
    assert (counts.skipped, counts.done, counts.errors) == (3, 1, 0)


def test_sigterm_ends_a_dump_that_waits_for_its_source(tiny_text: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("red")
    with subprocess.Popen(
        command("dump", "-", tmp_path / "out", "--backbone", tiny_text),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=tmp_path,
    ) as process:
        assert process.stdin is not None
        process.stdin.write("t.txt\n" * 640)
        process.stdin.flush()  # and no end: it would wait for ever
        wait_for((tmp_path / "out/manifest.json").exists)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        said = process.communicate()[1]
    assert_stopped(Done(process.returncode, "", said), signal.SIGTERM, tmp_path / "out")


def test_sigint_ends_a_dump_in_the_middle_of_its_work(headwater: Headwater, tiny_text: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\n" + "red cat\nblue dog\n" * 200_000)

    def interrupt() -> None:
        wait_for((tmp_path / "out/manifest.json").exists)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = headwater("dump", tmp_path / "t.csv", tmp_path / "out", "--backbone", tiny_text)
    thread.join()
    assert_stopped(done, signal.SIGINT, tmp_path / "out")


def test_a_signal_before_the_work_ends_it_with_the_same_words(
    headwater: Headwater, tiny_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("text\nred\n")

    def loads(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(30)  # what the signal ends

    monkeypatch.setattr(Extractor, "load", loads)
    for number in (signal.SIGINT, signal.SIGTERM):
        done = headwater("dump", tmp_path / "t.csv", tmp_path / "out", "--backbone", tiny_text)
        assert done.returncode == 128 + number
        assert f"stopped by {number.name}: what was done is committed; run it again to go on" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_signal_is_told_of_where_all_rows_so_far_are_errors(
    headwater: Headwater, tiny_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def paths(_: int) -> Iterator[str]:
        yield "not-there"
        assert failed.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)

    def count(counts: Counts, outcome: Outcome, key: str) -> None:
        counts.done, counts.errors, counts.first_error = 1, 1, (key, str(outcome.error))
        failed.set()

    monkeypatch.setattr("extractor.sources.listed.lines_of", paths)
    monkeypatch.setattr(Counts, "count", count)
    with open(os.devnull) as stdin:  # pytest's has no descriptor
        monkeypatch.setattr("sys.stdin", stdin)
        done = headwater("dump", "-", tmp_path / "out", "--backbone", tiny_text)
    assert_stopped(done, signal.SIGTERM, tmp_path / "out")
    assert "1 row in 1 shard in" in done.stdout and "0 embeddings (0 from the cache) and 1 error\n" in done.stdout


def test_a_retry_that_is_stopped_before_its_first_item_says_so(
    headwater: Headwater, tiny_image: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headwater("dump", photos, tmp_path / "out", "--backbone", tiny_image)

    def read(*_: object) -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(2)
        return b""

    monkeypatch.setattr("extractor.sources.places.LocalFile.read", read)
    done = headwater("dump", "--retry-errors", tmp_path / "out", "--backbone", tiny_image)
    assert done.returncode == 128 + signal.SIGINT
    assert "0 items asked for again: 0 have an embedding now, 0 failed again" in done.stdout


def assert_stopped(done: Done, by: signal.Signals, out: Path) -> None:
    assert done.returncode == 128 + by, done.stderr
    assert f"stopped by {by.name}: what was done is committed; run it again to go on" in done.stderr
    manifest = read_manifest(out)
    assert manifest.rows > 0 and not manifest.complete
    assert check(out).problems == ()


def wait_for(happened: object, limit_s: float = 30) -> None:
    until = time.monotonic() + limit_s
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


# -- by servers


def test_a_dump_by_a_server_is_the_same(
    headwater: Headwater, server: ServerProcess, photos: Path, tmp_path: Path
) -> None:
    done = headwater("dump", photos, tmp_path / "out", "--server", server.target, "--backbone", "tiny-image")
    assert done.returncode == 0, done.stderr
    assert_all_there(tmp_path / "out")
    done = headwater("dump", photos, tmp_path / "two", "--server", server.target, "--backbone", "tiny-image")
    assert "39 embeddings (39 from the cache) and 1 error" in done.stdout


@pytest.fixture
def extractor(tiny_image: Path) -> Iterator[Extractor]:
    with Extractor.load(tiny_image, cache="off") as one:
        yield one


def test_several_servers_share_the_work(extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path) -> None:
    with Extractor.load(tiny_image, cache="off") as second, ExitStack() as stack:
        batches: list[int] = []
        second.on_batch(lambda facts: batches.append(facts.n_items))
        addresses = [stack.enter_context(in_this_process({"tiny-image": one})).address for one in (extractor, second)]
        clients = [stack.enter_context(Client(address)) for address in addresses]
        counts = dump(photos, tmp_path / "out", Spread(clients))
    assert (counts.done, counts.errors) == (N_PHOTOS, 1)
    assert_all_there(tmp_path / "out")


def test_a_server_that_dies_is_waited_for(extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path) -> None:
    started = in_this_process({"tiny-image": Slow(extractor)})
    first = started.__enter__()
    stack = ExitStack()
    stack.callback(lambda: started.__exit__(None, None, None))
    with stack, Client(first.address) as client:
        verb = Spread([client], patience_s=30)
        done: list[Counts] = []
        worker = threading.Thread(target=lambda: done.append(dump(photos, tmp_path / "out", verb, commit_s=0.05)))
        worker.start()
        wait_for(lambda: list((tmp_path / "out").glob("part-*.parquet")))
        first.stop()
        first.join()
        assert worker.is_alive()
        port = int(first.address.rpartition(":")[2])
        with (
            Extractor.load(tiny_image, cache="off") as second,
            in_this_process({"tiny-image": second}, ServerSettings(port=port)),
        ):
            worker.join(30)
    assert done and done[0].done == N_PHOTOS
    assert_all_there(tmp_path / "out")


class Slow:
    """An extractor that takes its time, as a large one does."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    def __getattr__(self, name: str) -> object:
        return getattr(self._extractor, name)

    def submit(self, *arguments: object, **options: object) -> object:
        time.sleep(0.2)
        return self._extractor.submit(*arguments, **options)  # type: ignore[arg-type]


def test_what_one_server_leaves_another_takes_up(
    extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.spread.GIVE_UP_S", 0.5)
    with (
        Extractor.load(tiny_image, cache="off") as second,
        in_this_process({"tiny-image": second}) as stays,
        in_this_process({"tiny-image": extractor}) as goes,
        Client(goes.address) as one,
        Client(stays.address) as other,
    ):
        verb = Spread([one, other], patience_s=30)
        goes.stop()
        goes.join()
        counts = dump(photos, tmp_path / "out", verb)
    assert counts.done == N_PHOTOS
    assert_all_there(tmp_path / "out")


def test_what_a_server_leaves_is_taken_up_while_the_source_waits_for_it(
    extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.spread.GIVE_UP_S", 0.5)
    monkeypatch.setattr("extractor.dump.flow.MAX_PENDING", 8)  # fewer than there are: the source waits for the first
    away = threading.Event()

    class Hangs(Slow):
        def submit(self, *arguments: object, **options: object) -> object:
            if not away.is_set():
                away.set()
                time.sleep(1.5)  # beyond what the client waits; then the server goes
            raise NotServing("it has gone")

    with (
        Extractor.load(tiny_image, cache="off") as second,
        in_this_process({"tiny-image": second}) as stays,
        in_this_process({"tiny-image": Hangs(extractor)}) as goes,
        Client(goes.address) as one,
        Client(stays.address) as other,
    ):
        done: list[Counts] = []
        verb = Spread([one, other], patience_s=30)
        thread = threading.Thread(target=lambda: done.append(dump(photos, tmp_path / "out", verb)), daemon=True)
        thread.start()
        thread.join(20)
        assert done, "it hangs"
    assert away.is_set() and done[0].done == N_PHOTOS
    assert_all_there(tmp_path / "out")


def test_items_that_a_server_cannot_serve_are_asked_of_another(
    extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.spread.GIVE_UP_S", 0.5)

    class Sick(Slow):
        def submit(self, items: list[bytes], **options: object) -> object:
            request = self._extractor.submit([], **options)
            request.future = Future()
            request.future.set_result([Outcome(error=NotServing("the session hangs"))] * len(items))
            return request

    with (
        Extractor.load(tiny_image, cache="off") as second,
        in_this_process({"tiny-image": second}) as well,
        in_this_process({"tiny-image": Sick(extractor)}) as sick,
        Client(sick.address) as one,
        Client(well.address) as other,
    ):
        assert dump(photos, tmp_path / "out", Spread([one, other], patience_s=30)).done == N_PHOTOS
    assert_all_there(tmp_path / "out")


def test_a_server_that_hangs_is_given_no_items_before_it_answers(
    server: ServerProcess, tiny_image: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.spread.GIVE_UP_S", 0.3)
    monkeypatch.setattr("headwater.spread.PAUSE_S", 0.1)
    monkeypatch.setattr("extractor.dump.flow.MAX_PENDING", 4)  # small messages, so that there are many
    asked = []

    class Counted(Client):
        def iter_unordered(self, *arguments: Any, **options: Any) -> Any:
            asked.append(1)
            return super().iter_unordered(*arguments, **options)

    with (
        Extractor.load(tiny_image, cache="off") as extractor,
        in_this_process({"tiny-image": Slow(extractor)}) as slow,
        Counted(server.target, backbone="tiny-image") as hangs,
        Client(slow.address) as other,
    ):
        verb = Spread([hangs, other], patience_s=30)
        server.process.send_signal(signal.SIGSTOP)
        try:
            counts = dump(open_source(photos, pattern="01?.png"), tmp_path / "out", verb)
        finally:
            server.process.send_signal(signal.SIGCONT)
    assert (counts.committed, counts.errors, len(asked)) == (10, 0, 1)


def test_servers_that_stay_away_end_the_dump(
    extractor: Extractor, tiny_image: Path, photos: Path, tmp_path: Path
) -> None:
    with in_this_process({"tiny-image": extractor}) as goes, Client(goes.address) as client:
        verb = Spread([client], patience_s=0.6)
        goes.stop()
        goes.join()
        with pytest.raises(ServiceError, match="UNAVAILABLE"):
            dump(photos, tmp_path / "out", verb)
    assert read_manifest(tmp_path / "out").rows == 0
    with Extractor.load(tiny_image, cache="off") as another:
        assert dump(photos, tmp_path / "out", another).done == N_PHOTOS


def test_patience_begins_when_something_is_asked_for(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.spread.GIVE_UP_S", 0.3)
    monkeypatch.setattr("headwater.spread.PAUSE_S", 1.5)  # longer than until it looks whether to give up
    later, answered, well = [0.0], threading.Event(), threading.Event()
    monkeypatch.setattr("headwater.spread.time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    well.set()

    class SickForOnce(Slow):
        def submit(self, items: list[bytes], **options: object) -> object:
            if well.is_set():
                return super().submit(items, **options)
            request = self._extractor.submit([], **options)
            request.future = Future()
            request.future.set_result([Outcome(error=NotServing("the session hangs"))] * len(items))
            return request

    class Again(Client):
        def backbones(self) -> Any:  # is asked for by who has failed
            well.set()
            return super().backbones()

    def items() -> Iterator[bytes]:
        yield png(flat(1))
        answered.wait(30)
        later[0] = 3600.0  # in which the source was silent
        well.clear()
        yield png(flat(2))

    with ExitStack() as stack:
        server = stack.enter_context(in_this_process({"tiny-image": SickForOnce(extractor)}))
        clients = [stack.enter_context(Again(server.address)) for _ in range(2)]
        found = []
        for position, outcome in Spread(clients, patience_s=60).outcomes(items()):
            found.append((position, outcome.error))
            answered.set()
    assert (found, well.is_set()) == ([(0, None), (1, None)], True)


def test_servers_of_two_backbones_are_not_mixed(extractor: Extractor, tmp_path: Path) -> None:
    write_tiny_image(tmp_path / "tiny-image")
    other = json.loads((tmp_path / "tiny-image/spec.json").read_text())
    other["preprocess"]["interpolation"] = "bicubic"
    (tmp_path / "tiny-image/spec.json").write_text(json.dumps(other))
    with (
        Extractor.load(tmp_path / "tiny-image", cache="off") as second,
        in_this_process({"tiny-image": extractor}) as one,
        in_this_process({"tiny-image": second}) as two,
        Client(one.address) as first,
        Client(two.address) as other_client,
    ):
        with pytest.raises(BackboneChanged, match="must not be mixed"):
            Spread([first, other_client])
        with pytest.raises(BackboneNotFound), Client(one.address, backbone="no-such") as lost:
            Spread([lost])


# -- what is read of it for training


def test_a_dump_without_an_embedding_has_its_rows_and_fails(
    headwater: Headwater, tiny_image: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"broken")
    line = ("dump", tmp_path / "photos", tmp_path / "out", "--backbone", tiny_image)
    done = headwater(*line)
    assert done.returncode == 1
    assert "is it the backbone that was meant?" in done.stderr
    assert [row["key"] for row in table(tmp_path / "out")] == ["a.png"]
    (tmp_path / "photos/b.png").write_bytes(png(flat(1, 1, 2)))
    assert headwater(*line).returncode == 0


def test_a_dump_is_read_for_training_without_its_errors(extractor: Extractor, photos: Path, tmp_path: Path) -> None:
    dump(photos, tmp_path / "out", extractor, max_shard_rows=9)
    assert is_dump(tmp_path / "out") and not is_dump(photos)
    X, labels, keys = read(tmp_path / "out")
    assert facts(tmp_path / "out").fingerprint == extractor.fingerprint
    assert len(X) == len(labels) == len(keys) == N_PHOTOS - 1
    assert all(x.tolist() == [int(key[-7:-4]), 1, 2] for x, key in zip(X, keys, strict=True))
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    dump(photos, tmp_path / "none", extractor)
    with pytest.raises(DumpInvalid, match="has no embeddings"):
        read(tmp_path / "none")


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    tiny_text: Path, tmp_path: Path, headwater: Headwater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.commands.dump.LOG_S", 0.0)
    (tmp_path / "t.csv").write_text("text\n" + "red cat\nblue dog\n" * 20_000)
    done = headwater("dump", tmp_path / "t.csv", tmp_path / "out", "--backbone", tiny_text)
    assert done.returncode == 0, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"40,000 of 40,000 items, [\d,]+/s, 0:00:00 left, 0 errors, 0 cached, [\d.]+ MiB", last)
    assert "40,000 embeddings (0 from the cache) and 0 errors" in done.stdout


def test_ray_stands_with_or_without_an_address(headwater: Headwater, photos: Path, tmp_path: Path) -> None:
    for given in (["--ray", photos, tmp_path / "out"], [photos, tmp_path / "out", "--ray", "auto"]):
        done = headwater("dump", *given, "--server", "localhost:1")
        assert (done.returncode, "name a server or Ray, not both" in done.stderr) == (2, True)
    done = headwater("dump", photos, tmp_path / "out", "--ray", "--backbone", "no-such-backbone")
    assert (done.returncode, "no-such-backbone" in done.stderr) == (1, True)
