from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater import Client
from headwater.process import ServerProcess, serving


@pytest.fixture(scope="module")
def server(tiny_image: Path, tiny_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of the two tiny backbones, with its cache on disk."""
    with serving(str(tiny_image), str(tiny_text), "--cache", str(tmp_path_factory.mktemp("cache"))) as one:
        yield one


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target, backbone="tiny-image") as one:
        yield one
