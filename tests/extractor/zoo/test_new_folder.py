"""The folder that takes another's place: whole or not at all, whoever else writes, whatever ends it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from extractor.errors import ExportError
from extractor.spec import MODEL_FILE, SPEC_FILE
from extractor.zoo.new_folder import new_folder

N_WRITERS, N_TURNS = 4, 60


def fill(folder: Path, mark: str) -> None:
    for name in (MODEL_FILE, SPEC_FILE):
        (folder / name).write_text(mark)


def test_of_several_at_once_each_is_whole_or_told_of_the_other(tmp_path: Path) -> None:
    target, told, begin = tmp_path / "net", [], threading.Barrier(N_WRITERS)

    def write(writer: int) -> None:
        begin.wait()
        for turn in range(N_TURNS):
            try:
                with new_folder(target) as fresh:
                    fill(fresh, f"{writer} {turn}")
            except Exception as error:  # looked at below
                told.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(N_WRITERS)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert (target / MODEL_FILE).read_text() == (target / SPEC_FILE).read_text()
    assert {type(error) for error in told} <= {ExportError}
    assert all("made by another export at the same time" in str(error) for error in told)


def test_an_interrupt_between_the_renames_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "net", Path.rename
    with new_folder(target) as fresh:
        fill(fresh, "old")

    def interrupted(path: Path, to: Path) -> Path:
        if path.name.endswith(".new"):
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), new_folder(target) as fresh:
        fill(fresh, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert (target / SPEC_FILE).read_text() == "old"


def test_what_cannot_be_replaced_is_told_of_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds 'notes\.txt'"), new_folder(tmp_path / "net"):
        pytest.fail("the work began")
    with pytest.raises(ExportError, match="is a file, not a folder"), new_folder(tmp_path / "net" / "notes.txt"):
        pytest.fail("the work began")


KILLED = """
import os, signal, sys
from pathlib import Path
from extractor.zoo.new_folder import new_folder
rename, killed_at = Path.rename, sys.argv[2]
def renamed(path, to):
    if path.name.endswith(".new"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, to)
Path.rename = renamed
with new_folder(Path(sys.argv[1])) as fresh:
    (fresh / "model.onnx").write_text("half")
    if killed_at == "work":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target: Path, at: str) -> Path:
    """Kill an export at work, or between its renames, and return what it left."""
    before = set(target.parent.iterdir())
    done = subprocess.run([sys.executable, "-c", KILLED, target, at], check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    return next(path for path in sorted(set(target.parent.iterdir()) - before) if path.name.endswith(".new"))


def test_what_a_kill_left_is_swept_and_no_living_exports_nor_a_strangers(tmp_path: Path) -> None:
    living = tmp_path / "living"
    with new_folder(living) as mine:
        left = killed(tmp_path / "net", "work")
        strange, dated = tmp_path / ".mine.0123abcd.old", tmp_path / ".vim.20240101.old"
        file = tmp_path / ".notes.0123abcd.new"
        for one in (strange, dated):
            one.mkdir()
            (one / "notes.txt").write_text("mine")
        (tmp_path / "mine").mkdir()
        file.write_text("mine")
        with new_folder(tmp_path / "other") as fresh:  # of another backbone in the same home
            assert not left.exists()
            fill(fresh, "other")
        assert strange.exists() and dated.exists() and file.exists()
        fill(mine, "living")
    assert (living / SPEC_FILE).read_text() == "living"
    assert {path.name for path in tmp_path.iterdir()} == {
        "living",
        "other",
        "mine",
        strange.name,
        dated.name,
        file.name,
    }


def test_a_kill_between_the_renames_loses_no_backbone(tmp_path: Path) -> None:
    target = tmp_path / "net"
    with new_folder(target) as fresh:
        fill(fresh, "old")
    killed(target, "renames")
    assert not target.exists()
    with new_folder(tmp_path / "other") as fresh:
        fill(fresh, "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "other"]
    assert (target / SPEC_FILE).read_text() == "old"


def test_nothing_that_a_living_export_has_moved_aside_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename, seen = tmp_path / "net", Path.rename, []
    with new_folder(target) as fresh:
        fill(fresh, "old")

    def renamed(path: Path, to: Path) -> Path:
        if path.name.startswith(".net.") and path.name.endswith(".new"):
            with new_folder(tmp_path / "other") as another:  # an export that begins between the renames
                fill(another, "other")
            seen.extend(one.name.rsplit(".")[-1] for one in sorted(tmp_path.iterdir()) if ".net." in one.name)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", renamed)
    with new_folder(target) as fresh:
        fill(fresh, "new")
    assert sorted(seen) == ["new", "old"]
    assert (target / SPEC_FILE).read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "other"]
