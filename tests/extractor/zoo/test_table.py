"""The table of the zoo: its rows hold, the command prints it and tries one; and every row is exported and proved."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from extractor import zoo
from extractor.errors import BackboneNotFound, ExportError
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from extractor.zoo.table import TABLE, Row, row_of, target
from headwater.cli import app

# Smaller pictures and shorter texts than the networks read, so that all rows together take minutes: the network and
# its weights are of the true size.
SIDE = 96
LARGER_SIDES = {"inception_v3": 128, "xception": 128, "fasterrcnn_resnet50_fpn": 128, "vit_b_16": 112, "dinov2": 126}
OF_ONE_SIDE = {"clip-image", "stylegan", "biggan", *zoo.BUILT_IN}
MAX_TOKENS = 48
# Of the same code as a row that is exported: they are made, and run once.
SIBLINGS = {"vgg19", "resnet18", "mobilenet_v2", "biobert"}
ARGUMENTS = {"vit_b_16": {"image_size": 112}, "dinov2": {"img_size": 126}}  # of which these have a position a patch


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console on which no name is folded."""
    monkeypatch.setenv("COLUMNS", "250")


def test_rows_are_whole() -> None:
    keys = [row.key for row in TABLE]
    assert len(set(keys)) == len(keys)
    assert {row.key for row in TABLE if row.name in zoo.BUILT_IN} == set(zoo.BUILT_IN)
    assert {row.modality for row in TABLE} == {"image", "text", "audio", "array"}
    assert {row.key for row in TABLE if row.recipe} == {"stylegan", "biggan", "deepspeech", "jasper", "alphago"}
    for row in TABLE:
        assert row.source.module.startswith("extractor.zoo.")
        assert row_of(row.name).source == row.source


def test_a_row_is_found_by_what_it_is_called() -> None:
    assert row_of("glove").made == "glove.6B.300d"
    assert (row_of("dqn").made, row_of("xception").made) == ("DQN", "legacy_xception.tf_in1k")
    assert (row_of("clip-text").made, row_of("resnet50").made) == ("clip-vit-base-patch32-text", "resnet50")
    assert target(row_of("glove"), "mine.txt") == ("words:mine.txt", row_of("glove").choice())
    name, choice = target(row_of("resnet50"), "random")
    assert (name, choice.weights) == ("torchvision:resnet50", "random")
    with pytest.raises(BackboneNotFound, match=r"the zoo has no 'gpt-3'; near it are gpt2.*; headwater zoo lists them"):
        row_of("gpt-3")
    for call in (zoo.build, zoo.layers):
        with pytest.raises(BackboneNotFound, match="'resnet50' of the zoo is brought by the name torchvision:resnet50"):
            call("resnet50")
        with pytest.raises(BackboneNotFound, match="is made from pets: headwater export pets --precision int8"):
            call("pets@int8")


def test_the_command_prints_the_table() -> None:
    done = CliRunner().invoke(app, ["zoo"])
    assert done.exit_code == 0
    words = done.stdout
    for part in ("torchvision:resnet50", "hf:openai/whisper-tiny", "CC-BY-NC-SA-4.0", "(recipe)", "a download"):
        assert part in words
    assert "GPT-3 is served by its vendor only" in words
    said = str(CliRunner().invoke(app, ["zoo", "--weights", "random"]).exception)
    assert said == "--weights are of the network that is tried; name it with --try"
    with pytest.raises(ExportError, match="glove is a file of vectors, and has no architecture; name it: --weights"):
        target(row_of("glove"), "random")
    for weights in ("random", "mine.pth"):
        with pytest.raises(ExportError, match="minilm-l6 has its weights; leave --weights away"):
            target(row_of("minilm-l6"), weights)
    assert target(row_of("minilm-l6"), None) == ("minilm-l6", None)


def test_the_command_tries_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["zoo", "--try", "ppo", "--weights", "random"])
    assert done.exit_code == 0, done.output
    assert "ppo: array, dim 64, 0.0 MB, proved equal in" in done.stdout
    assert "nothing was kept" in done.stdout


def test_the_commands_take_networks_that_are_brought(tmp_path: Path) -> None:
    name = "torch:extractor.zoo.architectures.games:PPO"
    facts = ["--preprocess", '{"shape": [4]}', "--arguments", '{"hidden": [8, 6]}']
    listed = CliRunner().invoke(app, ["layers", name, *facts, "--match", "linear"])
    assert listed.exit_code == 0, listed.output
    assert "mlp_extractor.policy_net.2" in listed.stdout
    said = str(CliRunner().invoke(app, ["layers", name, *facts, "--match", "conv"]).exception)
    assert said.startswith("none of the ") and said.endswith("has 'conv' in it; leave --match away for all")
    assert "batch × 6" in listed.stdout
    command = ["export", name, *facts, "--weights", "random", "--out", str(tmp_path / "out"), "--name", "mine"]
    assert CliRunner().invoke(app, command).exit_code == 0
    spec = read_spec(tmp_path / "out")
    assert (spec.name, spec.dim) == ("mine", 6)
    refused = CliRunner().invoke(app, ["layers", "minilm-l6"])
    assert "has no layers to choose from" in str(refused.exception)


def brought(row: Row, folder: Path) -> Row:
    """A row whose files are here: a folder as the Hub has it, or a file of vectors."""
    if row.name.startswith("hf:"):
        from tests.hub_folders import write_hub_folder

        path = write_hub_folder(folder / row.key, row.key, true_size=True, weights=False)
        return dataclasses.replace(row, name=f"hf:{path}")
    if row.name.startswith("words:"):
        values = np.random.default_rng(0).normal(size=(2000, row.dim))
        lines = [
            f"{word} {' '.join(f'{one:.4f}' for one in vector)}\n"
            for word, vector in zip(_words(), values, strict=False)
        ]
        path = folder / f"{row.key}.txt"
        path.write_text("".join(lines))
        return dataclasses.replace(row, name=f"words:{path}")
    return row


def _words() -> list[str]:
    return ["the", "a", "cat", "card", "is", *(f"w{i}" for i in range(2000))]


def quicker(row: Row, choice: Choice | None) -> Choice | None:
    """What is chosen of a row, with smaller pictures and shorter texts."""
    if choice is None:
        return None
    facts = dict(choice.preprocess or {})
    if row.modality == "image" and row.key not in OF_ONE_SIDE:
        facts["size"] = LARGER_SIDES.get(row.key, SIDE)
    if row.modality == "text":
        facts["max_tokens"] = MAX_TOKENS
    arguments = ARGUMENTS.get(row.key, choice.arguments)
    return dataclasses.replace(choice, preprocess=facts or None, arguments=arguments)


@pytest.mark.stress
@pytest.mark.parametrize("row", [row for row in TABLE if row.key in SIBLINGS], ids=lambda row: row.key)
def test_siblings_are_made(row: Row, tmp_path: Path) -> None:
    here = brought(row, tmp_path)
    network = zoo.build(here.name, quicker(row, here.choice("random")))
    assert (network.dim, network.modality) == (row.dim, row.modality)


@pytest.mark.stress
@pytest.mark.parametrize("row", [row for row in TABLE if row.key not in SIBLINGS], ids=lambda row: row.key)
def test_every_row_is_exported_and_proved(row: Row, tmp_path: Path) -> None:
    here = brought(row, tmp_path)
    choice = quicker(row, here.choice(None if row.name.startswith("words:") else "random"))
    folder = export(here.name, tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.dim, spec.modality) == (row.dim, row.modality)
    megabytes = (folder / "model.onnx").stat().st_size / 2**20
    if not row.name.startswith("words:"):  # of which only a few are here
        assert megabytes < 1.6 * row.megabytes + 2, json.dumps({"key": row.key, "found": megabytes})


@pytest.mark.parametrize(
    ("name", "choice", "said"),
    [
        ("onnx:a.onnx", Choice(weights="b.pth"), "onnx: takes no --weights"),
        ("words:a.txt", Choice(sha256="00"), "words: takes no --sha256"),
        ("hf:a/b", Choice(scale=2.0), "hf: takes no --scale"),
        ("torchvision:alexnet", Choice(lengths="n", pads=True), "torchvision: takes no --lengths"),
        ("timm:test_vit", Choice(sha256="00"), "--sha256 is of a file of weights; name that with --weights"),
        ("hf:a/b", Choice(weights="random", sha256="00"), "--sha256 is of a file of weights"),
        ("torch:a:b", Choice(weights="random", sha256="00"), "--sha256 is of a file of weights"),
    ],
)
def test_what_a_source_would_not_heed_is_refused(name: str, choice: Choice, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        zoo.build(name, choice)
