"""`onnx:FILE` for texts: token ids, masks, segments, positions by their names, poolings without padding; refusals."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from extractor import Extractor, zoo
from extractor.errors import ExportError
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from headwater.cli import app
from tests.hub_folders import FAMILIES, hub, write_tokenizer

WORDS = ["[UNK]", *["the", "a", "cat", "dog", "sees", "of", "and", "with", "three", "four"]]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
MIX = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
TEXTS = ["cat", "the cat sees a dog", "a dog", "three cats and four dogs with the cat of the dog", "dog"]
INT32, INT64 = TensorProto.INT32, TensorProto.INT64


def write(folder: Path, *, mask: bool = True, kind: int = INT64, tokens: int | str = "t", **config: int) -> Path:
    """A network of texts: each state is its word's row and the mean of all words' by the mask, mixed; a classifier."""
    weights = ["Cast", ["attention_mask"]] if mask else ["Cast", ["ones"]]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Mul", ["input_ids", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node(*weights, ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["column", "first"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["context"]),
        helper.make_node("Squeeze", ["context", "first"], ["sentence"]),
        helper.make_node("Add", ["rows", "context"], ["seen"]),
        helper.make_node("Cast", ["token_type_ids"], ["segments"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["segments", "last"], ["segment_column"]),
        helper.make_node("Add", ["seen", "segment_column"], ["told"]),
        helper.make_node("MatMul", ["told", "mix"], ["last_hidden_state"], name="encoder"),
    ]
    constants = {"table": TABLE, "mix": MIX, "last": np.array([2]), "first": np.array([1])}
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    constants |= {"zero": np.array(0, dtype), "one": np.array(1, dtype)}
    names = ["input_ids", *(["attention_mask"] if mask else []), "token_type_ids"]
    graph = helper.make_graph(
        nodes,
        "texts",
        [helper.make_tensor_value_info(name, kind, ["n", tokens]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "texts.onnx")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "texts.onnx"


def states(text: str) -> np.ndarray:
    """What the network makes of a text's words (n_tokens, 4)."""
    rows = TABLE[[WORDS.index(word) if word in WORDS else 0 for word in text.split()]]
    return (rows + rows.mean(axis=0)) @ MIX


@pytest.mark.parametrize(
    ("pooling", "kind"), [(None, INT64), ("mean", INT32), ("max", INT64), ("cls", INT32), ("last", INT64)]
)
def test_padding_takes_no_part_however_states_are_pooled(tmp_path: Path, pooling: str | None, kind: int) -> None:
    path = write(tmp_path / "net", kind=kind)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["encoder"], pooling=pooling))
    spec = read_spec(folder)
    assert (spec.modality, spec.dim, spec.pooling, spec.preprocess.max_tokens) == ("text", 4, pooling or "mean", 512)
    assert zoo.build(f"onnx:{path}", Choice(pooling=pooling)).source.endswith("last_hidden_state")
    assert sorted(spec.files) == ["golden.npz", "model.onnx", "tokenizer.json"]
    assert {name: one.shape for name, one in spec.input.items()} == dict.fromkeys(
        ("input_ids", "attention_mask"), ("batch", "tokens")
    )
    pools = {"mean": lambda s: s.mean(0), "max": lambda s: s.max(0), "cls": lambda s: s[0], "last": lambda s: s[-1]}
    expected = np.stack([pools[pooling or "mean"](states(text)) for text in TEXTS])
    order = np.random.default_rng(2).permutation(4 * len(TEXTS)) % len(TEXTS)
    with Extractor.load(folder, workers=1, max_padding=0.95) as extractor:
        X = extractor.extract([TEXTS[i] for i in order])
        alone = extractor.extract(TEXTS[1:2])
    np.testing.assert_allclose(X, expected[order], atol=1e-5)
    np.testing.assert_allclose(alone, expected[1:2], atol=1e-5)


def test_several_layers_stand_side_by_side(tmp_path: Path) -> None:
    folder = export(f"onnx:{write(tmp_path)}", tmp_path / "out", choice=Choice(layers=["last_hidden_state", "rows"]))
    with Extractor.load(folder) as extractor:
        X = extractor.extract(TEXTS)
    rows = [TABLE[[WORDS.index(word) if word in WORDS else 0 for word in text.split()]] for text in TEXTS]
    expected = [np.concatenate([states(text).mean(0), one.mean(0)]) for text, one in zip(TEXTS, rows, strict=True)]
    np.testing.assert_allclose(X, expected, atol=1e-5)


def test_without_a_mask_only_texts_of_one_length_share_a_forward(tmp_path: Path) -> None:
    folder = export(f"onnx:{write(tmp_path, mask=False)}", tmp_path / "out", choice=Choice(layers=["encoder"]))
    assert not read_spec(folder).pads
    with Extractor.load(folder) as extractor:
        X = extractor.extract(TEXTS * 3)
    np.testing.assert_allclose(X, np.stack([states(text).mean(0) for text in TEXTS * 3]), atol=1e-5)


def test_the_bound_of_tokens_is_what_lies_beside_or_what_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, model_max_length=3)
    choice = Choice(layers=["encoder"])
    assert read_spec(export(f"onnx:{path}", tmp_path / "out", choice=choice)).preprocess.max_tokens == 3
    command = ["export", f"onnx:{path}", "--output", "encoder", "--preprocess", '{"max_tokens": 7}']
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "said"), "--name", "mine"])
    assert done.exit_code == 0, done.output
    spec = read_spec(tmp_path / "said")
    assert (spec.name, spec.preprocess.max_tokens) == ("mine", 7)
    with Extractor.load(tmp_path / "said") as extractor:
        (outcome,) = extractor.extract_each(["a cat " * 9])
    assert outcome.truncated


@pytest.mark.parametrize(
    ("options", "choice", "said"),
    [
        ({}, Choice(layers=["encoder"], pooling="gap"), r"take --pooling mean or max or cls or last"),
        ({}, Choice(layers=["encoder"], modality="array"), r"takes 'input_ids', 'attention_mask', 'token_type_ids' up"),
        ({}, Choice(layers=["encoder"], preprocess={"max_tokens": 0}), "no recipe for text"),
        ({"tokens": 8}, Choice(layers=["encoder"]), "takes 8 tokens and no other number; export the network with a fr"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, options: dict, choice: Choice, said: str) -> None:
    path = write(tmp_path / "net", **options)
    with pytest.raises(ExportError, match=said):
        export(f"onnx:{path}", tmp_path / "out", choice=choice)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_has_to_lie_beside(tmp_path: Path) -> None:
    path = write(tmp_path / "net")
    whole = (tmp_path / "net" / "tokenizer.json").read_bytes()
    (tmp_path / "net" / "tokenizer.json").write_bytes(whole[:-9])
    with pytest.raises(ExportError, match=r"tokenizer\.json is no tokenizer, or was cut short .*copy it again"):
        export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["encoder"]))
    (tmp_path / "net" / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"tokenizer\.json cannot be read: No such file .*put the tokenizer"):
        export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["encoder"]))
    assert [one.name for one in tmp_path.iterdir()] == ["net"]


def test_a_networks_own_pooling_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["context"]))
    with Extractor.load(folder) as extractor:
        X = extractor.extract(TEXTS)
    rows = [TABLE[[WORDS.index(word) if word in WORDS else 0 for word in text.split()]].mean(0) for text in TEXTS]
    np.testing.assert_allclose(X, rows, atol=1e-5)


def renamed(path: Path, **names: str) -> Path:
    """The same network with other names of its values, those being its outputs."""
    model = onnx.load(path)
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(one, one) for one in values]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(one) for one in names.values())
    onnx.save(model, path)
    return path


def test_what_an_encoder_gives_is_taken_as_exporters_call_it(tmp_path: Path) -> None:
    path = renamed(write(tmp_path), last_hidden_state="token_embeddings")
    network = zoo.build(f"onnx:{path}")
    assert (network.source.rpartition("; ")[2], network.pooling) == ("token_embeddings", "mean")
    renamed(path, token_embeddings="token_embeddings", sentence="sentence_embedding")
    network = zoo.build(f"onnx:{path}")
    assert (network.source.rpartition("; ")[2], network.pooling, network.dim) == ("sentence_embedding", "none", 5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "gap"])
def test_a_pooling_that_nothing_would_heed_is_refused(tmp_path: Path, pooling: str) -> None:
    with pytest.raises(ExportError, match=rf"give \(1, 5\) for one item, rows already; leave --pooling {pooling} away"):
        zoo.build(f"onnx:{write(tmp_path)}", Choice(layers=["sentence"], pooling=pooling))


class Told(torch.nn.Module):
    """A network of the Hub that is told its positions, as exporters of GPT-2 have it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.network(input_ids, attention_mask=attention_mask, position_ids=position_ids).last_hidden_state


def write_told(folder: Path, family: str) -> tuple[Path, torch.nn.Module]:
    """Write a drawn network of a family as ONNX with `position_ids` among its inputs, as optimum does."""
    config = getattr(hub, FAMILIES[family][0])(**FAMILIES[family][2], pad_token_id=0)
    config.save_pretrained(folder)
    write_tokenizer(folder, 50)
    torch.manual_seed(0)
    network = hub.AutoModel.from_config(config).eval()
    network.config.use_cache = False
    ones, names = torch.ones(2, 5, dtype=torch.int64), ["input_ids", "attention_mask", "position_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older exporter is what optimum takes
        torch.onnx.export(
            Told(network).eval(),
            (ones, ones, torch.arange(5).repeat(2, 1)),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
            opset_version=17,
            dynamo=False,
        )
    return folder / "model.onnx", network


@pytest.mark.parametrize(("family", "pooling"), [("gpt2", "last"), ("roberta", "mean")])
def test_positions_are_those_that_the_network_counts_itself(tmp_path: Path, family: str, pooling: str) -> None:
    path, network = write_told(tmp_path / family, family)
    choice = Choice(layers=["last_hidden_state"], pooling=pooling)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    assert list(read_spec(folder).input) == ["input_ids", "attention_mask"]
    assert read_spec(folder).preprocess.max_tokens == 50
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    with torch.inference_mode():
        found = [network(torch.tensor([ids])).last_hidden_state[0].numpy() for ids in tokens]
    expected = np.stack([one[-1] if pooling == "last" else one.mean(axis=0) for one in found])
    order = np.random.default_rng(2).permutation(4 * len(TEXTS)) % len(TEXTS)
    with Extractor.load(folder, workers=1, max_padding=0.95) as extractor:
        np.testing.assert_allclose(extractor.extract([TEXTS[i] for i in order]), expected[order], atol=1e-5)
        np.testing.assert_allclose(extractor.extract(TEXTS[1:2]), expected[1:2], atol=1e-5)
    if pooling == "mean":  # which takes padding on the left too
        (ids,), width = tokens[3:4], len(tokens[3]) + 9
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        for left in (0, 4, 9):
            mask = np.zeros((1, width), np.int64)
            mask[:, left : left + len(ids)] = 1
            padded = np.zeros((1, width), np.int64)
            padded[mask == 1] = ids
            (row,) = session.run(None, {"input_ids": padded, "attention_mask": mask})
            np.testing.assert_allclose(row, expected[3:4], atol=1e-5)


PLACED = """
    <ir_version: 8, opset_import: ["" : %d]>
    graph (int64[n,t] input_ids, int64[n,t] position_ids) => (float[n,t,4] y) {
        words = Gather(table, input_ids)
        places = Gather(table, position_ids)
        y = Mul(words, places)
    }
"""


def test_positions_without_a_mask_and_of_an_opset_that_cannot_count(tmp_path: Path) -> None:
    write(tmp_path)
    table = np.random.default_rng(3).normal(size=(512, 4)).astype(np.float32)

    def placed(opset: int) -> Path:
        model = onnx.parser.parse_model(PLACED % opset)
        model.graph.initializer.append(numpy_helper.from_array(table, "table"))
        onnx.save(model, tmp_path / "placed.onnx")
        return tmp_path / "placed.onnx"

    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    folder = export(f"onnx:{placed(13)}", tmp_path / "out", choice=Choice(layers=["y"]))
    assert not read_spec(folder).pads
    ids = [[WORDS.index(word) if word in WORDS else 0 for word in text.split()] for text in TEXTS]
    with Extractor.load(folder) as extractor:
        X = extractor.extract(TEXTS * 2)
    np.testing.assert_allclose(X, [(table[one] * table[: len(one)]).mean(axis=0) for one in ids] * 2, atol=1e-5)
    model = onnx.load(placed(13))
    model.graph.input.append(helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, ["n", "t", 4]))
    model.graph.node[0].input[1] = "past"
    model.graph.node.insert(0, helper.make_node("Add", ["input_ids", "behind"], ["past"]))
    model.graph.node.insert(0, helper.make_node("Size", ["past_key_values.0.key"], ["behind"]))
    onnx.save(model, tmp_path / "past.onnx")
    with pytest.raises(ExportError, match=r"takes 'past_key_values\.0\.key' beside 'input_ids', .*; export it without"):
        export(f"onnx:{tmp_path / 'past.onnx'}", tmp_path / "old", choice=Choice(layers=["y"]))
    with pytest.raises(ExportError, match="counted by an operator of opset 11, and the graph is of 10; export it agai"):
        export(f"onnx:{placed(10)}", tmp_path / "old", choice=Choice(layers=["y"]))
