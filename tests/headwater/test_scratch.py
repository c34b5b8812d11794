"""Files without a name beside the tasks: parts are kept in their order, and a full disk is told."""

from io import FileIO
from pathlib import Path

import pytest

from classifiers.errors import TaskUnwritable
from headwater.service import scratch


def test_parts_are_kept_in_their_order_under_no_name(tmp_path: Path) -> None:
    with scratch.Scratch(tmp_path) as file:
        for part in (b"a", b"", b"b" * 100_000):
            file.write(part)
        own = file.reader()
        assert not list(tmp_path.iterdir())
    with own:  # who reads has it still
        assert own.read() == b"a" + b"b" * 100_000


@pytest.mark.parametrize("n_bytes", [1, 100_000])
def test_a_full_disk_is_told_once(n_bytes: int) -> None:
    with FileIO("/dev/full", "wb") as file, pytest.raises(TaskUnwritable, match="make room"):
        scratch.write(file, bytes(n_bytes))  # and closing it is no second error
