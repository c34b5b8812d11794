"""Dumps on Ray: what a local dump gives, row for row, whatever is killed meanwhile."""

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extractor import Extractor
from extractor.dump import check, dump, on_ray, retry_errors
from extractor.dump.counts import Counts
from extractor.dump.manifest import read_manifest
from extractor.dump.mapper import DONE, RUN, Mapped, Mapper, Run, as_rows
from extractor.dump.on_ray import RayVerb
from extractor.errors import (
    BackboneChanged,
    BackboneNotFound,
    DumpRefused,
    EmptyItem,
    EngineFailed,
    RuntimeMissing,
    SourceInvalid,
    UnreadableItem,
)
from extractor.outcome import Outcome
from extractor.sources import Entry
from extractor.sources.places import LocalFile
from tests.dumped import BROKEN, N_ITEMS, Slow, Text, assert_alike, dumped_here, rows
from tests.tiny import flat, png

pytestmark = [
    pytest.mark.usefixtures("ray_home"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]

RAY = """
import sys
import ray
from extractor.dump import dump
from extractor.dump.on_ray import RayVerb
from tests.dumped import Slow

ray.init(address="local", num_cpus=1, object_store_memory=200 << 20, include_dashboard=False, log_to_driver=False)
with RayVerb(sys.argv[1], cache="off") as verb:
    dump(Slow(), sys.argv[2], verb, commit_s=0.1, max_shard_rows=50)
"""


def photos(folder: Path) -> Path:
    for i in range(N_ITEMS):
        (folder / f"{i % 5}").mkdir(parents=True, exist_ok=True)
        (folder / f"{i % 5}/{i:04}.png").write_bytes(b"broken" if i % BROKEN == 7 else png(flat(i % 256, i // 256)))
    return folder


def once(_: int) -> int:
    return 1


@pytest.fixture(scope="module")
def cluster(ray_home: Path) -> Iterator[None]:
    """Have this process in a small Ray, which every verb here then uses."""
    import ray

    ray.init(address="local", num_cpus=1, object_store_memory=200 << 20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_a_dump_on_ray_is_a_local_one_row_for_row(tmp_path: Path, tiny_image: Path) -> None:
    source = photos(tmp_path / "photos")
    with RayVerb(tiny_image, cache="off") as verb:
        counts = dump(source, tmp_path / "ray", verb, max_shard_rows=100)
        n_broken = sum(path.read_bytes() == b"broken" for path in source.rglob("*.png"))
        assert (counts.done, counts.errors, counts.committed) == (N_ITEMS, n_broken, N_ITEMS)
        assert counts.kinds == {"UndecodableItem": n_broken}
        assert counts.read_bytes == sum(path.stat().st_size for path in source.rglob("*.png"))
        assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_image, source, tmp_path / "here")))
        assert check(tmp_path / "ray").problems == ()
        assert read_manifest(tmp_path / "ray").complete
        (source / "0/0000a.png").write_bytes(png(flat(9)))
        assert dump(source, tmp_path / "ray", verb).committed == 1
        for path in source.rglob("*.png"):
            if path.read_bytes() == b"broken":
                path.write_bytes(png(flat(9)))
        assert retry_errors(source, tmp_path / "ray", verb).errors == 0
    assert all(row["error"] is None for row in rows(tmp_path / "ray"))


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_items_in_an_archive_and_in_rows_travel_to_actors(tmp_path: Path, tiny_image: Path) -> None:
    paths = sorted(path for path in photos(tmp_path / "photos").rglob("*.png"))
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in paths:
            archive.add(path, path.name)
    pq.write_table(pa.table({"image": [path.read_bytes() for path in paths]}), tmp_path / "photos.parquet")
    with RayVerb(tiny_image, cache="off") as verb:
        for name in ("photos.tar", "photos.parquet"):
            dump(tmp_path / name, tmp_path / f"ray-{name}", verb)
            found = rows(tmp_path / f"ray-{name}")
            assert_alike(found, rows(dumped_here(tiny_image, tmp_path / name, tmp_path / f"here-{name}")))


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_what_actors_embed_is_in_the_cache_and_the_other_way_round(tmp_path: Path, tiny_text: Path) -> None:
    cache, n_whole = str(tmp_path / "cache"), N_ITEMS - N_ITEMS // BROKEN
    with RayVerb(tiny_text, cache=cache) as verb:
        assert dump(Slow(seconds=0), tmp_path / "first", verb).cached == 0
        assert dump(Slow(seconds=0), tmp_path / "second", verb).cached == n_whole
    with Extractor.load(tiny_text, cache=cache) as extractor:
        assert dump(Slow(seconds=0), tmp_path / "here", extractor).cached == n_whole
    assert_alike(rows(tmp_path / "second"), rows(tmp_path / "here"))


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_costs_nothing_and_a_second_dump_at_once_is_refused(tmp_path: Path, tiny_text: Path) -> None:
    refused = []

    def again(counts: Counts) -> None:
        if counts.done and not refused:
            with RayVerb(tiny_text, cache="off") as second, pytest.raises(DumpRefused, match="is at work in"):
                dump(Slow(seconds=0), tmp_path / "ray", second)
            refused.append(True)

    with RayVerb(tiny_text, cache="off") as verb:
        dump(Slow(kills=str(tmp_path / "killed")), tmp_path / "ray", verb, told=again, max_shard_rows=100)
    assert refused
    assert (tmp_path / "killed").exists()
    assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")))
    assert check(tmp_path / "ray").problems == ()


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_what_is_wrong_everywhere_ends_the_dump_and_says_so(tmp_path: Path, tiny_text: Path) -> None:
    class Breaking(Slow):
        def entries(self) -> Iterator[Entry]:
            yield Entry("a", "red cat")
            raise SourceInvalid("the list broke off")

    with RayVerb(tiny_text, cache="off") as verb:
        with pytest.raises(EngineFailed, match="were begun 4 times, and their process died each time"):
            dump(Slow(seconds=0, kills=""), tmp_path / "deadly", verb, max_shard_rows=50)
        assert check(tmp_path / "deadly").problems == ()
        keys = [row["key"] for row in rows(tmp_path / "deadly")]
        assert keys == [f"{i:04}" for i in range(len(keys))]
        with pytest.raises(SourceInvalid, match="the list broke off"):
            dump(Breaking(), tmp_path / "breaking", verb)
        assert [row["key"] for row in rows(tmp_path / "breaking")] == ["a"]
        verb.fingerprint = "0" * 32
        with pytest.raises(BackboneChanged, match="on a machine of the cluster has the fingerprint"):
            dump(Slow(seconds=0), tmp_path / "out", verb)


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_a_killed_driver_is_resumed_on_ray_and_here(tmp_path: Path, tiny_text: Path) -> None:
    out = tmp_path / "ray"
    with subprocess.Popen([sys.executable, "-c", RAY, str(tiny_text), str(out)]) as driver:
        while not (out / "part-00001.parquet").exists():
            assert driver.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        driver.kill()
    shutil.copytree(out, tmp_path / "here")
    before = {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}
    assert sum(map(len, before.values()))
    dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")
    with RayVerb(tiny_text, cache="off") as verb:
        dump(Slow(seconds=0), out, verb)
    whole = dumped_here(tiny_text, Slow(seconds=0), tmp_path / "whole")
    for resumed in (out, tmp_path / "here"):
        after = {path.name: path.read_bytes() for path in resumed.glob("part-*.parquet")}
        assert before.items() < after.items(), "a committed shard is never touched"
        assert check(resumed).problems == ()
        assert_alike(rows(resumed), rows(whole))


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_a_dump_that_ended_holds_no_cpu_and_who_does_is_asked_for(
    tmp_path: Path, tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Stop(Exception):
        pass

    class Holder:
        def holds(self) -> bool:
            return True

    def stop(counts: Counts) -> None:
        if counts.done > N_ITEMS // BROKEN:
            raise Stop

    gc.disable()  # an actor is let go of, not found
    try:
        with RayVerb(tiny_text, cache="off") as verb:
            with pytest.raises(Stop):
                dump(Slow(), tmp_path / "stopped", verb, told=stop, commit_s=0.1)
            assert not read_manifest(tmp_path / "stopped").complete
            holder = ray.remote(num_cpus=1)(Holder).remote()
            assert ray.get(holder.holds.remote(), timeout=60)
            monkeypatch.setattr(on_ray, "STALLED_S", 1.0)
            with pytest.raises(EngineFailed, match=r"nothing back for 1 s, .* 1 CPUs .*look with `ray status`"):
                dump(Slow(), tmp_path / "waiting", verb)
            ray.kill(holder)
    finally:
        gc.enable()


@pytest.mark.stress
@pytest.mark.usefixtures("cluster")
def test_what_was_left_while_a_machine_was_lost_is_not_begun_again(
    tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extractor.dump.feed import Left, MachineLost, Waiting

    begun = []

    def mapped(_: RayVerb, feed: object, share: object, most: int, waiting: Waiting) -> Iterator[Mapped]:
        begun.append(waiting)
        if len(begun) == 1:
            raise MachineLost
        yield Mapped(0, 0, [Outcome(error=EmptyItem("it is empty"))])
        verb.__exit__(None, None, None)
        raise MachineLost

    monkeypatch.setattr(on_ray, "LEAVE_S", 0.1)
    monkeypatch.setattr(RayVerb, "_mapped", mapped)
    with RayVerb(tiny_text, cache="off") as verb:
        outcomes = verb.outcomes(iter([""]))
        assert [position for position, _ in islice(outcomes, 1)] == [0]
        with pytest.raises(Left):
            next(outcomes)
    assert len(begun) == 2


@pytest.mark.stress
@pytest.mark.parametrize(
    ("number", "send", "after"),
    [(signal.SIGINT, os.killpg, "part-00000.parquet"), (signal.SIGTERM, os.kill, "manifest.json")],
    ids=["ctrl-c at work", "sigterm before anything is done"],
)
def test_a_signal_ends_it_as_any_other_dump(
    number: signal.Signals, send: Callable[[int, int], None], after: str, tmp_path: Path, tiny_text: Path
) -> None:
    """Ctrl-C reaches Ray's processes, too; before the actors have started, this one waits within Ray."""
    out = tmp_path / "out"
    (tmp_path / "t.csv").write_text("text\n" + "red cat\nblue dog\n" * 500_000)
    command = [sys.executable, "-m", "headwater", "dump", tmp_path / "t.csv", out, "--backbone", tiny_text, "--ray"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (out / after).exists():
            assert process.poll() is None, "it ended before it was told to"
            time.sleep(0.05)
        send(process.pid, number)
        said = process.communicate()[1]
    assert process.returncode == 128 + number, said
    assert f"stopped by {number.name}: what was done is committed; run it again to go on" in said
    manifest = read_manifest(out)
    assert check(out).problems == ()
    assert (manifest.rows > 0, manifest.complete) == (after.startswith("part"), False)


def test_an_actor_of_another_backbone_says_so_for_each_item(tiny_text: Path) -> None:
    mapper = Mapper(once, str(tiny_text), "0" * 32, "off", 1)
    run = Run(3, 70, [b"red cat", "red dog"])
    mapped = pickle.loads(mapper(as_rows(pickle.dumps(run))).column(RUN)[0].as_py())  # noqa: S301
    assert (mapped.number, mapped.start) == (3, 70)
    assert [type(outcome.error) for outcome in mapped.outcomes] == [BackboneChanged, BackboneChanged]


def test_a_run_that_kills_its_process_is_told_of_by_its_items(tiny_text: Path) -> None:
    mapper = Mapper(lambda _: 5, str(tiny_text), "", "off", 1)
    run = Run(3, 70, ["red cat", "red dog", LocalFile("texts/72.txt")])
    mapped = pickle.loads(mapper(as_rows(pickle.dumps(run))).column(RUN)[0].as_py())  # noqa: S301
    assert [type(outcome.error) for outcome in mapped.outcomes] == [EngineFailed] * 3
    assert str(mapped.outcomes[0].error).startswith("the items from number 71 to number 73 (in texts/72.txt), of those")


def test_a_run_is_mapped_to_its_outcomes_and_what_is_done_to_nothing(tiny_text: Path) -> None:
    with Extractor.load(tiny_text, cache="off") as extractor:
        expected = extractor.extract(["red cat", "red dog"])
        mapper = Mapper(once, str(tiny_text), extractor.fingerprint, "off", 1)
    run = Run(0, 5, ["red cat", UnreadableItem("it is not there"), Text("red dog"), "  "])
    mapped = pickle.loads(mapper(as_rows(pickle.dumps(run))).column(RUN)[0].as_py())  # noqa: S301
    one, two, three, four = mapped.outcomes
    assert np.allclose([one.embedding, three.embedding], expected, rtol=0, atol=1e-6)
    assert [type(outcome.error) for outcome in (two, four)] == [UnreadableItem, EmptyItem]
    assert mapped.read_bytes == len("red catred dog  ")
    assert mapper(as_rows(DONE)).column(RUN).to_pylist() == [DONE]


def test_a_backbone_that_is_not_there_is_told_of_before_ray_is_started() -> None:
    with pytest.raises(BackboneNotFound):
        RayVerb("no-such-backbone")


def test_without_ray_the_error_says_what_to_install(tiny_text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeMissing, match=r"pip install 'headwater\[ray\]'"), RayVerb(tiny_text):
        pass
