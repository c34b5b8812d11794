"""Files without a name beside the tasks: parts are kept in their order, and a full disk is told."""

from io import FileIO
from pathlib import Path

import pytest

from classifiers.errors import TaskUnwritable
from headwater.service import scratch
from headwater.service.tasks import Tasks


def test_parts_are_kept_in_their_order_under_no_name(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path)
    with scratch.begun(tasks) as file:
        for part in (b"a", b"", b"b" * 100_000):
            scratch.write(file, part)
        file.seek(0)
        assert file.read() == b"a" + b"b" * 100_000
        assert [one.name for one in tmp_path.iterdir()] == [".lock"]
    tasks.close()


@pytest.mark.parametrize("n_bytes", [1, 100_000])
def test_a_full_disk_is_told_once(n_bytes: int) -> None:
    with FileIO("/dev/full", "wb") as file, pytest.raises(TaskUnwritable, match="make room"):
        scratch.write(file, bytes(n_bytes))  # and closing it is no second error
