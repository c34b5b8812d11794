"""Clusters of several machines, and of none; in a module of its own, for a process is in one cluster at a time."""

import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from extractor.dump import check, dump, on_ray
from extractor.dump.counts import Counts
from extractor.dump.on_ray import RayVerb, Share, share_of_cluster
from extractor.errors import EngineFailed
from extractor.sources import Entry
from tests.dumped import N_ITEMS, Slow, Text, assert_alike, dumped_here, rows

pytestmark = [
    pytest.mark.usefixtures("ray_home"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]


class Machines:
    """Those of Ray's own test cluster: processes, of which all that one has are killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
        self.n_lost = 0
        self._alive = [self.add(), self.add()]
        self.cluster.wait_for_nodes()

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def lose(self) -> None:
        self.cluster.remove_node(self._alive.pop(), allow_graceful=False)
        self.n_lost += 1


class Held(Slow):
    """Goes on when what was lost is done by others, and ends when a new machine is at work."""

    def __init__(self, others: Event, back: Event) -> None:
        super().__init__()
        self._others = others
        self._back = back

    def entries(self) -> Iterator[Entry]:
        for i in count():
            if i == N_ITEMS:
                assert self._others.wait(300), "what was given to the lost machine has not come back"
            if self._back.is_set():
                return
            assert i < 100 * N_ITEMS, "the new machine has no actor"
            yield Entry(f"{i:06}", Text(f"red cat {i}", 0.02))


@pytest.fixture
def machines() -> Iterator[Machines]:
    found = Machines()
    yield found
    found.cluster.shutdown()


@pytest.mark.stress
def test_a_machine_that_dies_costs_nothing(tmp_path: Path, tiny_text: Path, machines: Machines) -> None:
    def told(counts: Counts) -> None:
        if counts.done > N_ITEMS // 4 and not machines.n_lost:
            machines.lose()

    with RayVerb(tiny_text, address=machines.cluster.address, cache="off") as verb:
        assert share_of_cluster() == Share(actors=2, cpus=1, gpus=0)
        dump(Slow(seconds=0.02), tmp_path / "ray", verb, told=told, max_shard_rows=50)
    assert machines.n_lost == 1
    assert_alike(rows(tmp_path / "ray"), rows(dumped_here(tiny_text, Slow(seconds=0), tmp_path / "here")))
    assert check(tmp_path / "ray").problems == ()


@pytest.mark.stress
def test_what_waits_for_a_lost_machine_is_done_by_others(
    tmp_path: Path,
    tiny_text: Path,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ray keeps it for the lost actor, whose room would come only with the end of the source. A new machine is used."""
    import ray

    others, back = Event(), Event()
    monkeypatch.setattr(on_ray, "LOST_S", 1.0)

    def told(counts: Counts) -> None:
        if counts.done > N_ITEMS // 6 and not machines.n_lost:
            machines.lose()
        if counts.done > N_ITEMS * 7 // 8 and not others.is_set():
            machines.add()
            others.set()
        if others.is_set() and ray.cluster_resources()["CPU"] == 2 and not ray.available_resources().get("CPU"):
            back.set()

    with RayVerb(tiny_text, address=machines.cluster.address, cache="off") as verb:
        dump(Held(others, back), tmp_path / "ray", verb, told=told, max_shard_rows=500)
    assert "has not come back for 1 s or more, as if its machine was lost" in caplog.text
    assert "the dump goes on with 1 of 2 actors" in caplog.text
    found = rows(tmp_path / "ray")
    assert [row["key"] for row in found] == [f"{i:06}" for i in range(len(found))]
    assert len(found) >= N_ITEMS
    assert all(row["error"] is None for row in found)
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
