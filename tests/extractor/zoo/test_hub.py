"""`hf:FOLDER`: every family against transformers itself, one item at a time; and folders that are not whole."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from extractor import Extractor, zoo
from extractor.backbone import collate
from extractor.errors import ExportError
from extractor.export import export
from extractor.prepare import load_prepare
from extractor.preprocess.audio import to_waveform
from extractor.preprocess.image import fit_image
from extractor.preprocess.log_mel import log_mel
from extractor.spec import Spec, read_spec
from extractor.zoo.choice import Choice
from extractor.zoo.golden import photos
from extractor.zoo.golden.sounds import sounds
from extractor.zoo.hub_audio import audio_part
from extractor.zoo.hub_image import image_part
from tests.hub_folders import FAMILIES, READERS, SEERS, hub, write_hub_folder

TEXTS = ["cat", "a dog and a cat", "dogs 42", "the quick brown fox " * 9, "cat dog", "x"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub_folder(tmp_path_factory.mktemp("hub") / "tiny-bert", "bert")


@pytest.fixture
def copied(bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in bert.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_bert_is_transformers_mean_whatever_shares_the_batch(bert: Path, tmp_path: Path) -> None:
    (bert / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Tiny\n")
    folder = export(f"hf:{bert}", tmp_path / "out")
    spec = read_spec(folder)
    assert (spec.name, spec.modality, spec.dim, spec.pooling) == ("tiny-bert", "text", 32, "mean")
    assert (spec.preprocess.max_tokens, spec.licence) == (64, "cc-by-4.0")
    network = hub.AutoModel.from_pretrained(bert).eval()
    tokenizer = hub.AutoTokenizer.from_pretrained(bert)
    with torch.inference_mode():
        rows = [
            network(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state.mean(dim=1)
            for text in TEXTS
        ]
    expected = torch.cat(rows).numpy()
    with Extractor.load(folder, workers=1, max_padding=0.95) as extractor:
        X = extractor.extract(TEXTS * 3)
        alone = extractor.extract(TEXTS[1:2])
    np.testing.assert_allclose(X, np.tile(expected, (3, 1)), atol=1e-5)
    np.testing.assert_allclose(alone, expected[1:2], atol=1e-5)


def test_layers_and_poolings_of_texts(bert: Path) -> None:
    names = [one.name for one in zoo.layers(f"hf:{bert}")]
    assert {"embeddings", "encoder.layer.0", "encoder.layer.1", "pooler.dense"} <= set(names)
    inputs = {"input_ids": np.array([[1, 5, 9, 2]]), "attention_mask": np.ones((1, 4), np.int64)}
    network = hub.AutoModel.from_pretrained(bert).eval()
    with torch.inference_mode():
        found = network(**{name: torch.from_numpy(one) for name, one in inputs.items()}, output_hidden_states=True)
    first, second = (one[0] for one in found.hidden_states[1:])
    for choice, expected in [
        (Choice(pooling="cls"), second[0]),
        (Choice(pooling="last"), second[-1]),
        (Choice(pooling="max"), second.amax(dim=0)),
        (Choice(pooling="pooler"), found.pooler_output[0]),
        (Choice(layers=("encoder.layer.0", "penultimate")), torch.cat([first.mean(dim=0), second.mean(dim=0)])),
    ]:
        np.testing.assert_allclose(zoo.build(f"hf:{bert}", choice).reference(inputs)[0], expected, atol=1e-6)


def test_what_its_publisher_says_is_taken(copied: Path) -> None:
    (copied / "1_Pooling").mkdir()
    (copied / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (copied / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 17}))
    network = zoo.build(f"hf:{copied}")
    assert (network.pooling, network.preprocess.max_tokens) == ("cls", 17)
    chosen = zoo.build(f"hf:{copied}", Choice(pooling="mean", preprocess={"max_tokens": 9}))
    assert (chosen.pooling, chosen.preprocess.max_tokens) == ("mean", 9)


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "clip-image", "clip-text", "gpt2", "vit"])
def test_every_modality_is_told_by_its_configuration(tmp_path: Path, family: str) -> None:
    write_hub_folder(tmp_path / family, family, weights=False)
    choice = Choice(weights="random", modality="text" if family == "clip-text" else None)
    network = zoo.build(f"hf:{tmp_path / family}", choice)
    modality = "text" if family in READERS else "image" if family in SEERS else "audio"
    assert (network.modality, network.dim) == (modality, 16 if "clip" in family else 32)
    assert "random weights" in network.source
    assert network.name == (f"{family}-{modality}" if "clip" in family else family)


def test_weights_that_lack_are_not_drawn(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ExportError, match=r"lacks 1 of the network's weights.*encoder\.layer\.1\.output\.dense\.weight"
    ):
        zoo.build(f"hf:{copied}")


def test_a_pooler_that_was_never_trained_is_missed_only_where_it_is_wanted(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    kept = {name: one for name, one in weights.items() if not name.startswith("pooler.")}
    save_file(kept, copied / "model.safetensors", {"format": "pt"})
    assert zoo.build(f"hf:{copied}").dim == 32
    with pytest.raises(ExportError, match=r"lacks 2 of the network's weights.*pooler\.dense"):
        zoo.build(f"hf:{copied}", Choice(pooling="pooler"))


def test_a_file_that_is_cut_short_is_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExportError, match=r"transformers .* cannot load .*nothing of it was executed"):
        export(f"hf:{copied}", tmp_path / "out")
    (copied / "config.json").write_text('{"model_type": "bert"')
    with pytest.raises(ExportError, match="cannot load"):
        export(f"hf:{copied}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_folder_is_run(copied: Path, tmp_path: Path) -> None:
    (copied / "model.safetensors").unlink()
    weights = {"embeddings.word_embeddings.weight": Trap(tmp_path / "made")}
    torch.save(weights, copied / "pytorch_model.bin")
    with pytest.raises(ExportError, match="nothing of it was executed"):
        zoo.build(f"hf:{copied}")
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(weights))
    with pytest.raises(ExportError, match="nothing of it was executed"):
        zoo.build(f"hf:{copied}")
    facts = json.loads((copied / "config.json").read_text())
    facts |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (copied / "config.json").write_text(json.dumps(facts))
    (copied / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\n")
    with pytest.raises(ExportError, match="nothing of it was executed"):
        zoo.build(f"hf:{copied}")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(pooling="gap"), "pooling is 'gap'; texts take mean, cls"),
        (Choice(layers=("encoder.layer.7",)), r"no layer 'encoder\.layer\.7'; near it are 'encoder\.layer\.1'"),
        (Choice(layers=("embeddings",), pooling="pooler"), "leave --layer away"),
        (Choice(modality="array"), "hf: takes text, image, audio"),
        (Choice(modality="image"), "say size, mean, std of the images"),
        (Choice(preprocess={"max_tokens": 0}), "no recipe for text"),
    ],
)
def test_what_does_not_fit_is_refused(bert: Path, choice: Choice, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        zoo.build(f"hf:{bert}", choice)


def test_a_folder_without_a_tokenizer_is_refused(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ExportError, match=r"has no tokenizer: none of tokenizer\.json"):
        zoo.build(f"hf:{copied}")


def expected_of(family: str, source: Path, spec: Spec, arrays: list[torch.Tensor]) -> np.ndarray:
    """What transformers' own classes make of prepared items (1, …), one at a time."""
    rows = []
    kind = {"t5": "T5EncoderModel", "clip-image": "CLIPModel", "clip-text": "CLIPModel"}.get(family, "AutoModel")
    network = getattr(hub, kind).from_pretrained(source, attn_implementation="eager").eval()
    for array in arrays:
        with torch.inference_mode():
            if family == "whisper":
                states = network.encoder(array.transpose(1, 2)).last_hidden_state[0]
                floor = array.min()
                last = int((array > floor).any(dim=2)[0].nonzero().max()) + 1
                rows.append(states[: (last + 1) // 2].mean(dim=0))
            elif spec.modality == "image":
                pixels = (array.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
                if family == "vit":
                    rows.append(network(pixels).last_hidden_state[0, 0])
                else:
                    found = network.get_image_features(pixel_values=pixels)
                    rows.append(getattr(found, "pooler_output", found)[0])
            elif family == "clip-text":
                found = network.get_text_features(input_ids=array)
                rows.append(getattr(found, "pooler_output", found)[0])
            else:
                rows.append(network(array).last_hidden_state[0].mean(dim=0))
    return torch.stack(rows).numpy()


HEARERS = [one for one in FAMILIES if one not in READERS and one not in SEERS]


@pytest.mark.parametrize("family", [one for one in (*READERS, *SEERS) if one != "biobert"])  # whose network is BERT's
def test_every_family_is_what_transformers_computes(tmp_path: Path, family: str) -> None:
    source = write_hub_folder(tmp_path / family, family)
    network = zoo.build(f"hf:{source}", Choice(modality="text") if family == "clip-text" else None)
    for name, content in network.files.items():
        (tmp_path / name).write_bytes(content)
    spec = Spec(**{field.name: getattr(network, field.name, {}) for field in fields(Spec)} | {"precision": "fp32"})
    prepare = load_prepare(spec, tmp_path)
    made = [text.encode() for text in TEXTS] if spec.modality == "text" else photos()
    arrays = [prepare(item).array for item in made]
    expected = expected_of(family, source, spec, [torch.tensor(one)[None] for one in arrays])
    with torch.inference_mode():  # the graph of the true size is held against this module in test_table.py
        together = network.module(**{name: torch.tensor(one) for name, one in collate(spec, arrays).items()})
    np.testing.assert_allclose(together, expected, atol=3e-5)
    alone = np.concatenate([network.reference(collate(spec, [one])) for one in arrays])
    np.testing.assert_allclose(alone, expected, atol=3e-5)
    assert spec.pads == (spec.modality == "text")


@pytest.mark.stress
@pytest.mark.parametrize("family", HEARERS)
def test_every_family_that_hears_is_what_transformers_computes(tmp_path: Path, family: str) -> None:
    source = write_hub_folder(tmp_path / family, family)
    folder = export(f"hf:{source}", tmp_path / "out")
    spec, made = read_spec(folder), sounds(9)
    order = np.random.default_rng(0).permutation(3 * len(made)) % len(made)
    with Extractor.load(folder, max_batch_size=16, max_padding=0.9) as extractor:
        X = extractor.extract([made[i] for i in order])
    prepare = load_prepare(spec, folder)
    expected = expected_of(family, source, spec, [torch.tensor(prepare(item).array)[None] for item in made])
    np.testing.assert_allclose(X, expected[order], atol=3e-5)
    assert spec.pads == (family == "wav2vec2-layer")


@pytest.mark.stress
def test_a_repository_in_the_local_cache_needs_no_network(bert: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--somebody--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for path in bert.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "headwater", "export", "hf:somebody/tiny", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert read_spec(tmp_path / "out").source.startswith("somebody/tiny")
    absent = subprocess.run([*command[:4], "hf:somebody/else"], capture_output=True, text=True, env=env, check=False)
    assert absent.returncode == 1
    assert "cannot load somebody/else" in absent.stderr
    assert "Traceback" not in absent.stderr


SQUARE = {"size": {"height": 24, "width": 24}}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", SQUARE),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "do_normalize": False, "resample": 0}),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "rescale_factor": 1 / 127.5, "resample": 1}),
        ("vit.image_processing_pil_vit:ViTImageProcessorPil", {**SQUARE, "do_rescale": False}),
        (
            "clip.image_processing_pil_clip:CLIPImageProcessorPil",
            {"size": {"shortest_edge": 37}, "crop_size": {"height": 24, "width": 24}},
        ),
        ("convnext.image_processing_pil_convnext:ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}}),
        ("convnext.image_processing_pil_convnext:ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
    ],
)
def test_images_are_made_as_transformers_makes_them(tmp_path: Path, kind: str, facts: dict) -> None:
    module, _, name = kind.partition(":")
    processor = getattr(import_module(f"transformers.models.{module}"), name)(**facts)
    processor.save_pretrained(tmp_path)
    hub.ViTConfig(image_size=24).save_pretrained(tmp_path)
    part = image_part(str(tmp_path), hub.AutoConfig.from_pretrained(tmp_path), Choice())
    image = Image.fromarray(np.random.default_rng(0).integers(64, 192, (450, 800, 3), np.uint8))
    expected = np.asarray(processor(image)["pixel_values"][0]).transpose(1, 2, 0)
    made = (fit_image(image, part.preprocess) - np.array(part.preprocess.mean)) / np.array(part.preprocess.std)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() * part.preprocess.std[0] < 2.01  # of 255


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"size": {"height": 24, "width": 48}}, "takes images of .*a backbone's are square"),
        ({"size": 24, "resample": 5}, "Pillow's filter 5"),
    ],
)
def test_images_that_no_recipe_makes_are_refused(tmp_path: Path, facts: dict, said: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5], **facts}))
    hub.ViTConfig(image_size=24).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match=said):
        zoo.build(f"hf:{tmp_path}", Choice(weights="random"))


@pytest.mark.parametrize("family", ["vit", "bert"])
def test_what_lies_beside_the_weights_has_to_be_json(tmp_path: Path, family: str) -> None:
    folder = write_hub_folder(tmp_path / family, family, weights=False)
    name = {"vit": "preprocessor_config.json", "bert": "sentence_bert_config.json"}[family]
    (folder / name).write_text('{"image_mean": [0.5')
    with pytest.raises(ExportError, match=rf"{name} is not JSON .*copy it again"):
        zoo.build(f"hf:{folder}", Choice(weights="random"))


def test_arguments_that_the_network_does_not_take_are_refused(tmp_path: Path) -> None:
    folder = write_hub_folder(tmp_path / "bert", "bert", weights=False)
    with pytest.raises(ExportError, match=r"cannot be made with --arguments \{'nonsense': 1\}"):
        zoo.build(f"hf:{folder}", Choice(weights="random", arguments={"nonsense": 1}))


@pytest.mark.parametrize(
    ("family", "kind", "facts"),
    [
        ("wav2vec2", "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
        ("wav2vec2", "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
        ("whisper", "WhisperFeatureExtractor", {"chunk_length": 1}),
    ],
)
def test_sounds_are_made_as_transformers_makes_them(tmp_path: Path, family: str, kind: str, facts: dict) -> None:
    folder = write_hub_folder(tmp_path / family, family, weights=False)
    extractor = getattr(hub, kind)(**facts)
    extractor.save_pretrained(folder)
    part = audio_part(str(folder), hub.AutoConfig.from_pretrained(folder), Choice())
    loud = (np.random.default_rng(0).normal(size=9000) * np.linspace(0, 0.3, 9000) ** 4 + 0.01).astype(np.float32)
    made = to_waveform(loud, 16_000, part.preprocess)
    expected = extractor(loud, sampling_rate=16_000, return_tensors="np")[extractor.model_input_names[0]][0]
    if family == "whisper":
        made, expected = log_mel(made, part.preprocess), expected.T
    np.testing.assert_allclose(made, expected, atol=1e-4)
