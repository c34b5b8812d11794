"""Versions of heads on disk: whole or not there."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headwater.errors import HeadNotFound
from headwater.shelf import (
    activate,
    add_version,
    aliases,
    delete_head,
    find_head,
    find_version,
    staging,
    sweep,
    versions,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    return tmp_path


def make(name: str, text: str = "{}") -> int:
    with staging() as folder:
        (folder / "head.json").write_text(text)
        return add_version(name, folder).number


def test_versions_that_end_at_once_get_a_number_each() -> None:
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda i: make("one", str(i)), range(24)))
    assert sorted(numbers) == list(range(1, 25))
    assert [version.number for version in versions("one")] == sorted(numbers)
    assert (find_head("one@7") / "head.json").read_text() == str(numbers.index(7))


def test_what_was_not_finished_leaves_nothing(home: Path) -> None:
    with pytest.raises(RuntimeError), staging() as folder:
        (folder / "head.json").write_text("{}")
        raise RuntimeError
    assert list((home / "heads").iterdir()) == []
    with pytest.raises(HeadNotFound, match="there are: none yet"):
        find_version("one")


def test_what_a_killed_process_left_is_swept_and_nobody_elses() -> None:
    code = (
        "import os, signal; from headwater.shelf import staging\n"
        "with staging() as folder: (folder / 'head.json').write_text('{}'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode < 0
    with staging() as mine:
        left = [path for path in mine.parent.iterdir() if path != mine]
        assert len(left) == 1
        sweep()
        assert list(mine.parent.iterdir()) == [mine]


def test_an_alias_follows_and_a_broken_file_of_them_is_told(home: Path) -> None:
    make("one")
    make("one")
    with pytest.raises(HeadNotFound, match="head 'one' has no version 'production'; there are: 1, 2"):
        find_head("one")
    activate(find_version("one@1"))
    assert find_version("one").number == 1
    with pytest.raises(HeadNotFound, match="is no alias"):
        activate(find_version("one@1"), "2")
    assert aliases("one") == {"production": 1}
    (home / "heads" / "one" / "aliases.json").write_text("[]")
    with pytest.raises(HeadNotFound, match="malformed"):
        find_head("one")


@pytest.mark.parametrize("name", ["..", "../one", "one/1", ".new-1-ab", "", "one@1/../2"])
def test_a_path_is_no_name(name: str) -> None:
    make("one")
    with pytest.raises(HeadNotFound):
        find_head(name)
    with pytest.raises(HeadNotFound):
        delete_head(name)


def test_a_number_that_something_else_has_is_left_to_it(home: Path) -> None:
    assert make("one") == 1
    (home / "heads" / "one" / "2" / "mine").mkdir(parents=True)
    (home / "heads" / "one" / "3").write_text("")
    assert make("one") == 4
    assert [version.number for version in versions("one")] == [1, 4]
