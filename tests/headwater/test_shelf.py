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
    delete_version,
    find_head,
    find_version,
    head_names,
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


def test_a_number_is_taken_by_whatever_bears_it(home: Path) -> None:
    assert make("one") == 1
    (home / "heads" / "one" / "1" / "head.json").rename(home / "heads" / "one" / "1" / "gone")
    (home / "heads" / "one" / "2").mkdir()
    (home / "heads" / "one" / "3").write_text("a file")
    assert make("one") == 4
    assert [version.number for version in versions("one")] == [4]


def test_what_is_no_head_among_heads_is_passed_over(home: Path) -> None:
    make("one")
    for folder in ("one (copy)/1", "two/99999999999999999999", "two/٣", "two/01", ".three/1"):
        (home / "heads" / folder).mkdir(parents=True)
        (home / "heads" / folder / "head.json").write_text("{}")
    assert head_names() == ["one"]
    assert versions("two") == []
    for content in ("[]", "{", '{"production": 1e999}', '{"production": null}', "[" * 100_000, '{"production": -1}'):
        (home / "heads" / "one" / "aliases.json").write_text(content)
        with pytest.raises(HeadNotFound):
            find_version("one")
    (home / "heads" / "one" / "aliases.json").write_text('{"production": 1' + "0" * 4000 + "}")
    with pytest.raises(HeadNotFound, match="no version 'production'"):
        find_version("one")


def test_a_message_names_a_few_of_many() -> None:
    for i in range(30):
        make(f"head{i:02}")
    with pytest.raises(HeadNotFound, match="head09 and 20 more"):
        find_version("gone")


def test_aliases_that_are_moved_at_once_are_all_kept() -> None:
    make("one")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: activate(find_version("one@1"), f"alias{i}"), range(40)))
        list(threads.map(lambda _: make_active("one"), range(8)))
    assert aliases("one") == {f"alias{i}": 1 for i in range(40)} | {"production": 9}


def make_active(name: str) -> int:
    with staging() as folder:
        (folder / "head.json").write_text("{}")
        return add_version(name, folder, activate=True).number


def test_a_version_that_cannot_be_activated_is_not_there(home: Path) -> None:
    (home / "heads" / "one" / "aliases.json").mkdir(parents=True)
    with pytest.raises(HeadNotFound, match="malformed"):
        make_active("one")
    assert versions("one") == []
    assert list((home / "heads" / "one").iterdir()) == [home / "heads" / "one" / "aliases.json"]
    assert not list((home / "heads").glob(".new-*"))


def test_what_another_process_writes_is_not_swept_whatever_its_number() -> None:
    code = (
        "import sys; from headwater.shelf import staging\n"
        "with staging() as folder: print(folder, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout is not None
        folder = Path(writer.stdout.readline().strip())
        sweep()
        assert folder.exists()
        writer.kill()
        writer.wait()
        sweep()
        assert not folder.exists()


def test_an_alias_of_a_deleted_version_is_refused() -> None:
    make("one")
    make("one")
    version = find_version("one@1")
    delete_version(version)
    with pytest.raises(HeadNotFound, match="was deleted"):
        activate(version)
