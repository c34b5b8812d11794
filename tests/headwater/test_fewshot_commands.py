"""`headwater fewshot`: what is under HEADWATER_HOME here, and what a server has."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classifiers.errors import (
    ExampleNotFound,
    InvalidOption,
    StoreInUse,
    TaskEmpty,
    TaskExists,
    TaskInvalid,
    TaskNotFound,
    VersionConflict,
)
from extractor import Extractor
from extractor.errors import BackboneNotFound, BackboneNotNamed
from headwater.cli import app
from headwater.errors import DataInvalid, OutputNotWritable
from headwater.server import ServerSettings
from tests.heads import COLOURS, coloured
from tests.headwater.test_commands import headwater
from tests.inprocess import in_this_process
from tests.tiny import flat, png, write_tiny_image, write_tiny_text

VERBS = (
    *("create", "list", "show", "update", "delete", "export", "import", "add", "classify", "remove", "relabel"),
    *("rename-class", "merge-classes", "remove-class", "undo", "changes", "examples", "suggest", "audit", "evaluate"),
)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a backbone for images and one for texts, and no task."""
    folder = tmp_path_factory.mktemp("commands-home")
    write_tiny_image(folder / "backbones" / "tiny-image")
    write_tiny_text(folder / "backbones" / "tiny-text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_HOME", str(folder))
        patch.delenv("HEADWATER_SERVER", raising=False)
        yield folder


@pytest.fixture(scope="module")
def target(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, with tasks of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_HOME", str(tmp_path_factory.mktemp("server-home")))
        backbones = {name: Extractor.load(home / "backbones" / name) for name in ("tiny-image", "tiny-text")}
        with in_this_process(backbones, ServerSettings(port=0)) as server:
            assert ran("list", "--server", server.address).startswith("there is no task yet")
            patch.undo()
            yield server.address


@pytest.fixture
def tasks() -> Iterator[None]:
    """None at the end."""
    yield
    for line in ran("list", "--json").splitlines():
        ran("delete", json.loads(line)["name"])


def invoke(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["fewshot", *map(str, arguments)], input=stdin)


def ran(*arguments: object, stdin: str | None = None) -> str:
    done = invoke(*arguments, stdin=stdin)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def told(*arguments: object, stdin: str | None = None) -> Any:
    """What a command tells programs."""
    lines = [json.loads(line) for line in ran(*arguments, "--json", stdin=stdin).splitlines()]
    return lines[0] if len(lines) == 1 else lines


def fails(kind: type[Exception], *arguments: object) -> str:
    done = invoke(*arguments)
    assert isinstance(done.exception, kind), (done.output, done.exception)
    return str(done.exception)


def photos(folder: Path, n: int = 3, seed: int = 0) -> Path:
    """A folder with a folder a colour."""
    for i in range(3 * n):
        file = folder / COLOURS[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(coloured(i % 3, seed + i))
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_an_example(verb: str) -> None:
    assert f"headwater fewshot {verb}" in ran(verb, "--help").split("Example:")[1]


def test_a_task_here_from_its_first_example_to_its_end(tasks: None, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    made = told("create", "colours", "--backbone", "tiny-image", "--keep-items", "--label", "grey")
    assert (made["version"], made["backbone"], made["keep_items"], made["classes"]) == (
        1,
        "tiny-image",
        True,
        {"grey": 0},
    )
    assert told("add", "colours", folder)["n_new"] == 9
    (folder / "red" / "bad.png").write_bytes(b"no image")
    done = invoke("add", "colours", "--label", "red", folder / "red", "--if-version", 2)
    assert done.exit_code == 1
    assert "3 examples taught; task colours is at version 3" in done.stdout
    assert "bad.png" in done.stderr
    assert "1 of 4 items failed" in done.stderr
    query = tmp_path / "query.png"
    query.write_bytes(coloured(2, 99))
    (one, bad) = [
        json.loads(line)
        for line in invoke(
            "classify", "colours", query, tmp_path / "gone", "--json", "--neighbours", 1
        ).stdout.splitlines()
    ]
    assert one["ranking"][0]["label"] == "blue"
    assert one["neighbours"][0]["note"].startswith("blue/")
    assert (one["version"], one["refining"]) == (3, False)
    assert "error" in bad
    assert "12 examples of 4 classes, version 3" in ran("show", "colours")
    assert told("list")["n_classes"] == 4
    assert "colours" in ran("list")
    assert "task colours is deleted" in ran("delete", "colours")
    assert "there is no task yet" in ran("list")


def test_the_command_ends_with_the_error_and_code_1(home: Path) -> None:
    done = headwater("fewshot", "add", "gone", "--label", "red", "--text", "red", home=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no task 'gone'")


def test_errors_say_what_to_do(tasks: None, home: Path, tmp_path: Path) -> None:
    assert "several backbones" in fails(BackboneNotNamed, "create", "mail")
    fails(BackboneNotFound, "create", "mail", "--backbone", "gone")
    fails(InvalidOption, "create", "../mail", "--backbone", "tiny-text")
    ran("create", "mail", "--backbone", home / "backbones" / "tiny-text")
    fails(TaskExists, "create", "mail", "--backbone", "tiny-text")
    assert "add one of each class" in fails(TaskEmpty, "classify", "mail", "--text", "red")
    assert "--label" in fails(DataInvalid, "add", "mail", "--text", "red")
    assert "nothing to teach" in fails(DataInvalid, "add", "mail")
    assert "no item" in fails(DataInvalid, "classify", "mail")
    assert "--name" in fails(DataInvalid, "update", "mail", "--name", "red")
    fails(TaskNotFound, "classify", "gone", "--text", "red")
    fails(OutputNotWritable, "export", "mail", tmp_path / "no" / "file")
    fails(DataInvalid, "import", tmp_path / "gone.sqlite")


def test_tasks_that_a_server_has_are_asked_through_it(home: Path) -> None:
    with in_this_process({}, ServerSettings(port=0)) as server:
        ran("list", "--server", server.address)
        for command in (
            ("list",),
            ("show", "x"),
            ("classify", "x", "--text", "a"),
            ("create", "x", "--backbone", "tiny-text"),
        ):
            assert "--server HOST:PORT" in fails(StoreInUse, *command)


def test_texts_are_taught_from_tables_lines_and_standard_input(target: str, tmp_path: Path) -> None:
    there = ("--server", target)
    ran("create", "mail", "--backbone", "tiny-text", *there)
    table = tmp_path / "mail.csv"
    table.write_text("body,kind\nred red,warm\nblue,cold\n")
    columns = ("--item-column", "body", "--label-column", "kind")
    assert told("add", "mail", table, *columns, "--once", *there)["n_new"] == 2
    table.write_text("body,kind\nred red,warm\nblue,cold\nblue green,cold\nblue green,cold\n")
    again = told("add", "mail", table, *columns, "--once", *there)
    assert (again["n_new"], len(again["ids"])) == (1, 3)
    assert "1 were" not in ran("add", "mail", "--label", "warm", "--text", "red dog", *there)
    assert told("add", "mail", "-", "--label", "pet", *there, stdin="cat\n\ndog\n")["n_new"] == 2
    lines = '{"text": "cat cat", "label": "pet"}\n{"text": "green", "label": "cold"}\n'
    assert told("add", "mail", "-", *there, stdin=lines)["n_new"] == 2
    assert told("show", "mail", *there)["classes"] == {"cold": 3, "pet": 3, "warm": 2}
    found = told("classify", "mail", "-", *there, "--false-alarm-rate", 0, stdin="cat dog\ngreen blue\n")
    assert [one["label"] for one in found] == ["pet", "cold"]
    notes = [line.split("  ")[1:] for line in ran("examples", "mail", "--label", "cold", *there).splitlines()]
    assert notes == [["cold", "mail.csv:3"], ["cold", "mail.csv:4"], ["cold", "stdin.jsonl:2"]]
    ran("delete", "mail", *there)


def test_what_was_taught_is_changed_looked_through_and_taken_elsewhere(target: str, tmp_path: Path) -> None:
    there = ("--server", target)
    ran("create", "colours", "--backbone", "tiny-image", *there)
    ran("add", "colours", photos(tmp_path / "photos", 5), *there)
    ids = [one["id"] for one in told("examples", "colours", *there)]
    assert len(ids) == 15
    assert told("remove", "colours", ids[0], *there) == {"version": 3}
    assert "version 4" in ran("relabel", "colours", "red", ids[1], ids[2], *there)
    assert told("rename-class", "colours", "blue", "navy", *there) == {"version": 5}
    assert told("merge-classes", "colours", "green", "--into", "navy", *there) == {"version": 6}
    assert told("remove-class", "colours", "red", *there) == {"version": 7}
    assert "can be undone" in ran("changes", "colours", *there)
    assert told("undo", "colours", 5, *there) == {"version": 8}
    assert [one["kind"] for one in told("changes", "colours", "-n", 2, *there)] == ["undo", "remove class"]
    fails(ExampleNotFound, "remove", "colours", "gone", *there)
    fails(VersionConflict, "undo", "colours", "--if-version", 1, *there)
    assert told("update", "colours", "--method", "knn", *there)["settings"]["method"] == "knn"
    file = tmp_path / "colours.sqlite"
    ran("export", "colours", file, *there)
    assert "15 examples of 3 classes" in ran("import", file, "--name", "copy", *there)
    ran("import", file)  # into the home here
    assert told("show", "colours")["n_examples"] == 15
    file.write_bytes(b"none")
    fails(TaskInvalid, "import", file, "--name", "broken", *there)
    pool = photos(tmp_path / "pool", 4, seed=50)
    assert len(told("suggest", "colours", pool, "-n", 3, *there)) == 3
    assert "uncertainty" in ran("suggest", "colours", pool, "-n", 1, *there)
    words = ran("classify", "colours", next(pool.rglob("0.png")), "--neighbours", 2, "--false-alarm-rate", 0, *there)
    assert ": red " in words
    assert "near red" in words
    assert "(red/" in words
    found = told("audit", "colours", *there)
    assert found["accuracy"]["n_examples"] == 15
    assert "named rightly by the others" in ran("audit", "colours", *there)
    for name in ("colours", "copy"):
        ran("delete", name, *there)
    ran("delete", "colours")


def test_a_task_is_measured(target: str, tmp_path: Path) -> None:
    there = ("--server", target)
    ran("create", "shades", "--backbone", "tiny-image", *there)
    ran("add", "shades", photos(tmp_path / "photos", 8), *there)
    more = photos(tmp_path / "more", 5, seed=500)
    closed = told("evaluate", "shades", more, *there)
    assert (closed["n_in_scope"], closed["n_out_of_scope"], closed["accuracy"]["value"]) == (15, 0, 1.0)
    assert closed["out_of_scope_recall"] is None
    (more / "blue" / "!.png").write_bytes(b"no image")  # the first
    for i in range(1, 6):
        file = more / ("other" if i < 4 else "grey") / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(grey(i))
    done = invoke("evaluate", "shades", more, "--out-of-scope", "other", "--json", *there)
    assert done.exit_code == 1  # one item cannot be read
    opened = json.loads(done.stdout)
    assert (opened["n_in_scope"], opened["n_out_of_scope"], opened["n_failed"]) == (15, 5, 1)
    assert opened["strange"] == ["grey"]
    assert 0.9 <= opened["auroc"] <= 1
    assert opened["accuracy"]["low"] <= opened["accuracy"]["value"] <= opened["accuracy"]["high"]
    assert [point["false_alarm_rate"] for point in opened["points"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    alarms = [point["false_alarms"] for point in opened["points"]]
    assert alarms == sorted(alarms)
    assert opened["method"]
    words = invoke("evaluate", "shades", more, "--out-of-scope", "other", *there).stdout
    assert "AUROC" in words
    assert "labels that it does not have, out of its scope: grey" in words
    fails(DataInvalid, "evaluate", "shades", more / "other", *there)
    ran("delete", "shades", *there)


def grey(seed: int) -> bytes:
    """A dark image of no colour."""
    return png(flat(seed, seed, seed))
