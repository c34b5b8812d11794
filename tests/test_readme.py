"""The README's examples, run in order, in a folder with two photos, against a real server."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from sklearn.datasets import load_sample_images

from extractor import Extractor
from extractor.dump import dump
from headwater.cli import app
from headwater.process import serving
from tests.test_layers import ROOT

ADDRESS = "127.0.0.1:50051"
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
SHELL = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("headwater ")
]
(SERVE,) = [line for line in COMMANDS if line.startswith("headwater serve ")]
CONSOLE = [line for line in COMMANDS if line != SERVE]


@pytest.fixture(scope="module")
def address(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the README's own `headwater serve` listens, on a free port instead of the one it names."""
    arguments = SERVE.replace(f"--port {ADDRESS.rpartition(':')[2]}", "").split()[2:]
    with serving(*arguments, "--cache", str(tmp_path_factory.mktemp("cache"))) as server:
        yield server.target


@pytest.fixture(scope="module")
def made(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cat.jpg`, `dog.jpg`, `photos/` with a folder a label, and `embedded/`, their dump."""
    folder = tmp_path_factory.mktemp("readme")
    for name, image in zip(("cat", "dog"), load_sample_images().images, strict=True):
        photo = Image.fromarray(image)
        photo.save(folder / f"{name}.jpg")
        (folder / "photos" / name).mkdir(parents=True)
        for turn, mirrored in enumerate((photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            mirrored.save(folder / "photos" / name / f"{turn}.jpg")
    with Extractor.load("efficientnet-lite0") as extractor:
        dump(folder / "photos", folder / "embedded", extractor)
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 3
    assert len(CONSOLE) >= 5
    assert ADDRESS in README


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(code: str, here: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code.replace(ADDRESS, address), "README.md", "exec"), {})  # noqa: S102  # our own README
    printed = capsys.readouterr().out
    for promised in re.findall(r"# .*?(\(2, 384\) float32|\['delivery'\])", code):
        assert promised in printed


@pytest.mark.parametrize("line", CONSOLE)
def test_console_examples_run(line: str, here: Path, address: str) -> None:
    program, command, *arguments = shlex.split(line.replace(ADDRESS, address))
    assert program == "headwater"
    if command == "export":
        arguments += ["--out", str(here / "made")]
    done = subprocess.run(
        [sys.executable, "-m", program, command, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if "--out" in arguments:
        assert Path(arguments[arguments.index("--out") + 1]).exists()


@pytest.mark.parametrize("line", SHELL)
def test_commands_that_are_only_shown_have_these_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    while hasattr(command, "commands") and arguments:
        command = command.commands[arguments.pop(0)]
    command.make_context(line, arguments)  # fails on an option that is not there


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
