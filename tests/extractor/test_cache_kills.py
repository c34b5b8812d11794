"""SIGKILL at random moments under load: the cache opens, is clean, and returns what a fresh computation would."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from extractor.cache.disk import MIN_BYTES, DiskStore
from headwater import Client
from headwater.process import serving
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.extractor.known import is_right, key_of
from tests.tiny import flat, png

SEED = 4
N_NUMBERS = 4000  # five times what the bound has room for
MAX_LIFE_S = 0.25

# Forks a process for each line that it reads, says its number, and when it is gone: much quicker than to start one.
NURSERY = """
import os, random, sys
from extractor.cache import behind
from extractor.cache.behind import WriteBehind
from extractor.cache.disk import MIN_BYTES, DiskStore
from tests.extractor.known import entries, is_right, key_of

behind.GATHER_S = 0.05  # several commits a life, for a kill to come amid them
known = dict(enumerate(entries(*range(int(sys.argv[2])))))

def work(seed):
    rng = random.Random(seed)
    cache = WriteBehind(DiskStore.open(sys.argv[1], max_bytes=MIN_BYTES)).start()
    while True:
        numbers = rng.sample(range(len(known)), rng.choice((1, 10, 100)))
        for number, found in zip(numbers, cache.get_many([key_of(one) for one in numbers])):
            assert found is None or is_right(number, found)
        cache.put_many([known[number] for number in numbers])

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(int(line))
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def nursery(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", NURSERY, str(folder), str(N_NUMBERS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def live_and_die(process: "subprocess.Popen[str]", seed: int, life_s: float) -> None:
    """Have a writer born, and kill it in the middle of its work."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    time.sleep(life_s)
    os.kill(child, signal.SIGKILL)
    assert int(process.stdout.readline()) == -signal.SIGKILL, "it had ended by itself"


def judge(folder: Path, numbers: dict[bytes, int]) -> int:
    """Open the store as the kill has left it; return how many entries it has, all of them right."""
    with closing(DiskStore.open(folder, max_bytes=MIN_BYTES)) as store:
        checked = store.check()
        assert checked.n_spoilt == 0
        for key, entry in store.scan():
            assert is_right(numbers[key], entry)
    assert not list(folder.glob("*.broken*"))
    assert (folder / "data.mdb").stat().st_size <= MIN_BYTES
    return checked.n_rows


def kill(folder: Path, times: int) -> None:
    """Kill one writer after the other; every second time another one goes on meanwhile."""
    rng = random.Random(SEED)  # noqa: S311  # no secret
    numbers = {key_of(number): number for number in range(N_NUMBERS)}
    n_most = 0
    with nursery(folder) as first, nursery(folder) as second:
        for seed in range(times):
            life_s = rng.uniform(0.01, MAX_LIFE_S)
            if seed % 2:
                longer = threading.Thread(target=live_and_die, args=(second, -seed, life_s + 0.05))
                longer.start()
            live_and_die(first, seed, life_s)
            n_rows = judge(folder, numbers)
            if seed % 2:
                longer.join()
                n_rows = judge(folder, numbers)
            n_most = max(n_most, n_rows)
    assert n_most > N_NUMBERS / 40  # they were killed at work; on a busy machine they get little done


def test_ten_kills_of_a_writer_leave_nothing_wrong(tmp_path: Path) -> None:
    kill(tmp_path, 10)


@pytest.mark.stress
def test_two_hundred_kills_of_a_writer_leave_nothing_wrong(tmp_path: Path) -> None:
    kill(tmp_path, 200)


def colours(n: int) -> dict[bytes, tuple[int, int, int]]:
    """Return images and their embeddings: the tiny backbone's is the colour."""
    return {png(flat(i % 256, i // 256, 7)): (i % 256, i // 256, 7) for i in range(n)}


def ask(client: Client, items: list[bytes], expected: dict[bytes, tuple[int, int, int]]) -> int:
    """Compare a server's answers with what is so; return how many were cached."""
    outcomes = client.extract_each(items)
    for item, outcome in zip(items, outcomes, strict=True):
        assert outcome.embedding is not None
        np.testing.assert_array_equal(outcome.embedding, expected[item])
    return sum(outcome.cached for outcome in outcomes)


def load(
    stub: extractor_pb2_grpc.ExtractorServiceStub, rng: random.Random, expected: dict[bytes, tuple[int, int, int]]
) -> None:
    """Ask for what is cached and for what is new, until the server is gone."""
    known = list(expected)
    while True:
        new = [png(np.frombuffer(rng.randbytes(192), np.uint8).reshape(8, 8, 3)) for _ in range(16)]
        asked = rng.sample(known, 16)
        response = stub.Extract(pb.ExtractRequest(items=[pb.Item(data=item) for item in asked + new]))
        found = np.frombuffer(response.embeddings, "<f4").reshape(32, 3)[:16]
        np.testing.assert_array_equal(found, [expected[item] for item in asked])


def kill_servers(backbone: Path, folder: Path, times: int) -> None:
    """Kill a server under load, and compare the answers of the next with what is so."""
    rng = random.Random(SEED)  # noqa: S311  # no secret
    expected = colours(2000)
    items = list(expected)
    command = [str(backbone), "--cache", str(folder), "--cache-mib", "8", "--cache-min-free-mib", "0"]
    for life in range(times + 1):
        with serving(*command) as server, Client(server.target) as client:
            cached = ask(client, items, expected)
            assert (cached > 0) == (life > 0)
            if life == times:
                break
            ending = threading.Timer(rng.uniform(0.05, 0.5), server.process.kill)
            ending.start()
            with pytest.raises(grpc.RpcError), grpc.insecure_channel(server.target) as channel:
                load(extractor_pb2_grpc.ExtractorServiceStub(channel), rng, expected)
            ending.join()


def test_a_killed_servers_cache_serves_the_next_one_rightly(tiny_image: Path, tmp_path: Path) -> None:
    kill_servers(tiny_image, tmp_path / "cache", 1)


@pytest.mark.stress
def test_the_cache_of_servers_that_are_killed_again_and_again(tiny_image: Path, tmp_path: Path) -> None:
    kill_servers(tiny_image, tmp_path / "cache", 10)
