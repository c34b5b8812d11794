"""Clusters of several machines, and of none; in a module of its own, for a process is in one cluster at a time."""

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from extractor.dump import check, dump, on_ray
from extractor.dump.counts import Counts
from extractor.dump.on_ray import RayVerb, Share, share_of_cluster
from extractor.errors import EngineFailed
from extractor.sources import Entry
from tests.dumped import N_ITEMS, Slow, assert_alike, dumped_here, rows

pytestmark = [
    pytest.mark.usefixtures("ray_home"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]


@pytest.mark.stress
def test_a_machine_that_dies_costs_nothing(tmp_path: Path, tiny_text: Path) -> None:
    """Machines of Ray's own test cluster: processes, of which all that one has are killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
    try:
        machines = [cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
        cluster.wait_for_nodes()

        def told(counts: Counts) -> None:
            if counts.done > N_ITEMS // 4 and machines:
                cluster.remove_node(machines.pop(), allow_graceful=False)
                machines.clear()

        with RayVerb(tiny_text, address=cluster.address, cache="off") as verb:
            assert share_of_cluster() == Share(actors=2, cpus=1, gpus=0)
            dump(Slow(seconds=0.02), tmp_path / "ray", verb, told=told, max_shard_rows=50)
    finally:
        cluster.shutdown()
    assert not machines
    assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")))
    assert check(tmp_path / "ray").problems == ()


@pytest.mark.stress
def test_what_waits_for_a_lost_machine_is_done_by_others(
    tmp_path: Path, tiny_text: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray keeps it for the lost actor, whose room would come only with the end of the source."""
    from ray.cluster_utils import Cluster

    beyond = Event()

    class Held(Slow):
        def entries(self) -> Iterator[Entry]:
            for number, entry in enumerate(super().entries(), 1):
                if number == N_ITEMS:
                    assert beyond.wait(300), "what was given to the lost machine has not come back"
                yield entry

    monkeypatch.setattr(on_ray, "LOST_S", 1.0)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
    try:
        machines = [cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
        cluster.wait_for_nodes()

        def told(counts: Counts) -> None:
            if counts.done > N_ITEMS // 6 and len(machines) == 2:
                cluster.remove_node(machines.pop(), allow_graceful=False)
            if counts.done > N_ITEMS * 7 // 8:
                beyond.set()

        with RayVerb(tiny_text, address=cluster.address, cache="off") as verb:
            dump(Held(seconds=0.02), tmp_path / "ray", verb, told=told, max_shard_rows=50)
    finally:
        cluster.shutdown()
    assert "has not come back for 1 s, as if its machine was lost; the dump goes on with 1 actors" in caplog.text
    assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")))
    assert check(tmp_path / "ray").problems == ()


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
