"""Memory under many requests."""

from pathlib import Path

import numpy as np
import pytest

from headwater import Client
from headwater.process import ServerProcess, serving

N_REQUESTS = 10_000
MAX_GROWTH_MB = 20


def resident_mb(server: ServerProcess) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.stress
def test_ten_thousand_requests_leave_memory_where_it_was(tiny_image: Path) -> None:
    rng = np.random.default_rng(0)
    with serving(str(tiny_image), "--cache", "off") as server, Client(server.target) as client:
        for i in range(N_REQUESTS):
            client.extract([rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(2)])
            if i == N_REQUESTS // 10:
                before = resident_mb(server)
        assert resident_mb(server) - before < MAX_GROWTH_MB
