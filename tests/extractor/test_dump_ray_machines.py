"""Clusters of several machines, and of none; in a module of its own, for a process is in one cluster at a time."""

import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from extractor.dump import check, dump, on_ray
from extractor.dump.counts import Counts
from extractor.dump.mapper import RUN, as_rows
from extractor.dump.on_ray import RayVerb, Share, share_of_cluster
from extractor.errors import EngineFailed
from tests.dumped import N_ITEMS, Slow, assert_alike, dumped_here, rows

pytestmark = [
    pytest.mark.usefixtures("ray_home"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]


@pytest.fixture
def cluster(ray_home: Path) -> Iterator[Any]:
    """Ray's own test cluster: machines are processes, of which all that one has are killed. Two have a CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.stress
def test_a_machine_that_dies_costs_nothing_though_no_other_has_room_for_its_actor(
    tmp_path: Path, tiny_text: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray keeps its runs for that actor, which would get room at the end; and rows wait for rows before them."""
    monkeypatch.setattr(on_ray, "LATE_S", 5.0)
    monkeypatch.setattr(on_ray, "STALLED_S", 60.0)
    machines = list(cluster.worker_nodes)

    def told(counts: Counts) -> None:
        if counts.done > N_ITEMS // 4 and len(machines) == 2:
            cluster.remove_node(machines.pop(), allow_graceful=False)

    with caplog.at_level(logging.WARNING), RayVerb(tiny_text, address=cluster.address, cache="off") as verb:
        assert share_of_cluster() == Share(actors=2, cpus=1, gpus=0)
        dump(Slow(seconds=0.02), tmp_path / "ray", verb, told=told, max_shard_rows=50)
    assert len(machines) == 1
    told_of = [record.message for record in caplog.records if record.name == on_ray.__name__]
    assert len(told_of) == 1
    assert re.fullmatch(r"Ray has not brought back some runs .* 2 actors take 1 CPUs .*`ray status`", told_of[0])
    assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")))
    assert check(tmp_path / "ray").problems == ()


@pytest.mark.stress
@pytest.mark.timeout(120)  # it would wait for ever
def test_what_a_machine_had_made_when_it_died_is_not_waited_for(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from extractor.dump import feed as feeds

    class Large:
        """Leaves word of whom it was begun by; with one call at a time, what was begun before is made."""

        def __init__(self, _: object) -> None:
            self._machine = ray.get_runtime_context().get_node_id()

        def __call__(self, table: pa.Table) -> pa.Table:
            run = table.column(RUN)[0].as_py()
            (tmp_path / f"{run.decode()}-{self._machine}").touch()
            return as_rows(run * (1 << 19))  # larger than what travels with its task's end

    monkeypatch.setattr(feeds, "FETCH_S", 1.0)
    ray.init(address=cluster.address, log_to_driver=False)
    feed, waiting = feeds.start_feed(), feeds.Waiting(bool)
    done = feeds.mapped(feed, Large, (), Share(actors=2, cpus=1, gpus=0), waiting, calls=1, queued=2)
    for number, run in enumerate("abcdefgh"):
        ray.get(feed.put.remote(number, run.encode()))
    next(done)
    while not (busy := Counter(path.name.partition("-")[2] for path in tmp_path.iterdir()).most_common(1)[0])[1] > 2:
        time.sleep(0.05)
    machine = next(node for node in cluster.worker_nodes if node.node_id == busy[0])
    cluster.remove_node(machine, allow_graceful=False)
    for number, run in enumerate("ABCDEFGH", 8):  # of these, the lost actor may be given three, before it is missed
        ray.get(feed.put.remote(number, run.encode()))
    assert any(data[:1].isupper() for data in done), "what came after is had"
    waiting.end(60.0)


@pytest.mark.parametrize("auto", [False, True], ids=["given", "auto"])
def test_an_address_where_nobody_listens_is_told_of_at_once(
    auto: bool, tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)  # as a cluster that has ended leaves it
    asked = "auto" if auto else address
    said = rf"no Ray answers at {asked} \(.*:{address.rpartition(':')[2]}: .*refused\)"
    with pytest.raises(EngineFailed, match=said), RayVerb(tiny_text, address=asked):
        pass
