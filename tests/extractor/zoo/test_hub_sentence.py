"""`hf:FOLDER` as sentence-transformers writes it: its pooling, and the projection behind, against torch's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from extractor import zoo
from extractor.errors import ExportError
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from tests.hub_folders import hub, write_hub_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hub_folder(tmp_path / "tiny-bert", "bert")


SAID_TO_POOL = [
    ({"pooling_mode": "cls", "embedding_dimension": 32, "include_prompt": True}, "cls"),  # as of version 6
    ({"pooling_mode": ["max"]}, "max"),
    ({"pooling_mode": "lasttoken"}, "last"),
    ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
    ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "last"),
    ({"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}, "max"),
    ({"word_embedding_dimension": 32}, "mean"),
]
SAID_TO_POOL_OTHERWISE = [
    ({"pooling_mode": "weightedmean"}, "weightedmean"),
    ({"pooling_mode": ["cls", "mean"]}, "cls, mean"),
    ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
    ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
    ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls, mean"),
]


@pytest.mark.parametrize(("facts", "pooling"), SAID_TO_POOL)
def test_the_pooling_of_sentence_transformers_is_taken(folder: Path, facts: dict, pooling: str) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(facts))
    assert zoo.build(f"hf:{folder}", Choice(weights="random")).pooling == pooling


@pytest.mark.parametrize(("facts", "said"), SAID_TO_POOL_OTHERWISE)
def test_a_pooling_that_is_not_made_is_refused_until_another_is_said(folder: Path, facts: dict, said: str) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ExportError, match=f"published with the pooling {said}; say --pooling"):
        zoo.build(f"hf:{folder}", Choice(weights="random"))
    assert zoo.build(f"hf:{folder}", Choice(weights="random", pooling="mean")).pooling == "mean"
    assert zoo.layers(f"hf:{folder}", Choice())


def write_modules(folder: Path, *kinds: str) -> None:
    """Write what sentence-transformers lays beside a network, a pooling of the class token among it."""
    paths = ["" if kind == "Transformer" else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    facts = {"Pooling": {"pooling_mode": "cls"}, "Dense": {"in_features": 32, "out_features": 16, "bias": True}}
    for kind, path in zip(kinds, paths, strict=True):
        (folder / path).mkdir(exist_ok=True)
        if kind in facts:
            (folder / path / "config.json").write_text(json.dumps(facts[kind]))


def test_a_projection_behind_the_pooling_is_applied(folder: Path, tmp_path: Path) -> None:
    write_modules(folder, "Transformer", "Pooling", "Dense", "Normalize")
    torch.manual_seed(3)
    linear = torch.nn.Linear(32, 16)
    dense = folder / "2_Dense"
    with pytest.raises(ExportError, match=r"lacks 2_Dense/model\.safetensors or pytorch_model\.bin"):
        zoo.build(f"hf:{folder}")
    torch.save({f"linear.{name}": one for name, one in linear.state_dict().items()}, dense / "pytorch_model.bin")
    ids = torch.tensor([[1, 5, 9, 2]])
    inputs = {"input_ids": ids.numpy(), "attention_mask": np.ones((1, 4), np.int64)}
    with torch.inference_mode():
        state = hub.AutoModel.from_pretrained(folder).eval()(ids).last_hidden_state[:, 0]
        expected = torch.tanh(linear(state))
    network = zoo.build(f"hf:{folder}")
    assert (network.pooling, network.dim) == ("cls", 16)
    np.testing.assert_allclose(network.reference(inputs), expected, atol=1e-6)
    for choice in [Choice(pooling="cls"), Choice(layers=("penultimate",))]:  # of the network alone
        np.testing.assert_allclose(zoo.build(f"hf:{folder}", choice).reference(inputs), state, atol=1e-6)
    spec = read_spec(export(f"hf:{folder}", tmp_path / "out"))
    assert (spec.dim, spec.pooling) == (16, "cls")
    assert len(zoo.layers(f"hf:{folder}")) > 9


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"activation_function": "own.Activation"}, "published with a Dense of .*own.Activation.*say --pooling"),
        ({"activation_function": "torch.nn.modules.linear.Linear"}, "published with a Dense of"),
        ({"use_residual": True}, "published with a Dense of .*use_residual"),
        ({"module_input_name": "token_embeddings"}, "published with a Dense of .*token_embeddings"),
        ({"out_features": "16"}, "2_Dense/config.json has no in_features and out_features"),
    ],
)
def test_a_projection_that_is_not_made_is_refused(folder: Path, facts: dict, said: str) -> None:
    write_modules(folder, "Transformer", "Pooling", "Dense")
    path = folder / "2_Dense" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(ExportError, match=said):
        zoo.build(f"hf:{folder}", Choice(weights="random"))


def test_modules_that_are_not_made_are_refused(folder: Path) -> None:
    for kinds in [("Transformer", "Dense"), ("Transformer", "Pooling", "LayerNorm"), ("Router",)]:
        write_modules(folder, *kinds)
        with pytest.raises(ExportError, match=f"published as {', '.join(kinds)}, which is not made here; say --pool"):
            zoo.build(f"hf:{folder}", Choice(weights="random"))
        assert zoo.build(f"hf:{folder}", Choice(weights="random", pooling="mean")).dim == 32
