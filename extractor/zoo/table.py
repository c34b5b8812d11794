"""The networks that the literature names -> how each is brought, what it gives, what it needs; known without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extractor.errors import BackboneNotFound, ExportError
from extractor.zoo import BUILT_IN, SOURCES, Source
from extractor.zoo.choice import RANDOM, Choice
from extractor.zoo.near import near

_PAGE = "see its page"
_OWN = "of your weights"
_OWN_MODULE = "torch:extractor.zoo.architectures."
_HALF = [127.5, 127.5, 127.5]
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet
_JASPER = {
    **{"recipe": "log-mel/1", "sample_rate": 16_000, "n_mels": 64, "n_fft": 512, "win_length": 320},
    **{"window": "hann-symmetric", "preemphasis": 0.97, "log": "ln", "floor": 2**-24, "floor_by": "add"},
    "normalise": "band",
}
_DEEP_SPEECH = {
    **{"recipe": "log-mel/1", "sample_rate": 16_000, "n_mels": 161, "n_fft": 320, "win_length": 320},
    **{"mel_scale": "none", "power": 1, "log": "ln", "floor": 1, "floor_by": "add", "normalise": "item"},
}
VENDOR_ONLY = "GPT-3 is served by its vendor only, and its weights were never published: it cannot be a backbone."


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network of the table.

    Parameters
    ----------
    key : str
        What `headwater zoo --try` takes.
    network : str
        What the literature calls it.
    name : str
        What `headwater export` takes.
    modality : str
    dim : int
        Of its embeddings, as it is taken by default.
    megabytes : float
        Of its weights in fp32.
    licence : str
        Of the weights; where they are the user's, that says so.
    needs : str
        What has to be had beside packages.
    recipe : bool
        No package has the architecture: a small one of its kind shows how to bring one's own.
    chosen : mapping
        What its `Choice` says beside.
    """

    key: str
    network: str
    name: str
    modality: str
    dim: int
    megabytes: float
    licence: str
    needs: str = "a download"
    recipe: bool = False
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> str:
        """The name of the backbone that it becomes."""
        kind, _, reference = self.name.rpartition(":")
        last = reference.rpartition("/")[2]
        both_towers = f"-{self.modality}" if "/clip-" in reference else ""
        return f"{last.rpartition('.')[0] if kind == 'words' else last}{both_towers}"

    @property
    def source(self) -> Source:
        """What makes it."""
        return BUILT_IN.get(self.name) or SOURCES[self.name.partition(":")[0]]

    def choice(self, weights: str | None = None) -> Choice | None:
        """Return what is chosen of it; None where nothing can be."""
        return None if self.name in BUILT_IN else Choice(**self.chosen, weights=weights)


def _built_in(key: str, network: str, modality: str, dim: int, megabytes: float, licence: str) -> Row:
    return Row(
        key=key,
        network=network,
        name=key,
        modality=modality,
        dim=dim,
        megabytes=megabytes,
        licence=licence,
        needs="a package" if BUILT_IN[key].brought_by.startswith("pip install --no-deps") else "nothing",
    )


def _vision(key: str, network: str, dim: int, megabytes: float, **more: Any) -> Row:
    facts = {"name": f"torchvision:{key}", "licence": "BSD-3-Clause"} | more
    return Row(key=key, network=network, modality="image", dim=dim, megabytes=megabytes, **facts)


def _hub(key: str, network: str, name: str, modality: str, dim: int, megabytes: float, licence: str) -> Row:
    return Row(
        key=key,
        network=network,
        name=f"hf:{name}",
        modality=modality,
        dim=dim,
        megabytes=megabytes,
        licence=licence,
        chosen={"modality": modality},
    )


def _words(key: str, network: str, file: str, megabytes: float, licence: str, **more: Any) -> Row:
    return Row(
        key=key,
        network=network,
        name=f"words:{file}",
        modality="text",
        dim=300,
        megabytes=megabytes,
        licence=licence,
        needs="its file",
        chosen=more,
    )


def _own(key: str, network: str, name: str, modality: str, dim: int, megabytes: float, **more: Any) -> Row:
    recipe = more.pop("recipe", False)
    return Row(
        key=key,
        network=network,
        name=_OWN_MODULE + name,
        modality=modality,
        dim=dim,
        megabytes=megabytes,
        licence=_OWN,
        needs="your weights",
        recipe=recipe,
        chosen={"modality": modality} | more,
    )


TABLE = (
    _built_in("efficientnet-lite0", "EfficientNet-Lite0", "image", 1280, 13, "Apache-2.0"),
    _vision("alexnet", "AlexNet", 4096, 233),
    _vision("vgg16", "VGG-16", 4096, 528),
    _vision("vgg19", "VGG-19", 4096, 548),
    _vision("resnet18", "ResNet-18", 512, 45),
    _vision("resnet50", "ResNet-50", 2048, 98),
    _vision("inception_v3", "Inception v3", 2048, 104),
    _vision("efficientnet_b0", "EfficientNet-B0", 1280, 20),
    _vision("mobilenet_v2", "MobileNet v2", 1280, 14),
    _vision("mobilenet_v3_large", "MobileNet v3", 1280, 21),
    _vision("densenet121", "DenseNet-121", 1024, 31),
    _vision("vit_b_16", "ViT-B/16", 768, 330),
    _vision("swin_t", "Swin-T", 768, 108),
    _vision("convnext_tiny", "ConvNeXt-T", 768, 109),
    _vision("fasterrcnn_resnet50_fpn", "Faster R-CNN, its pyramid", 1024, 160),
    _vision("xception", "Xception", 2048, 87, name="timm:legacy_xception.tf_in1k", licence="Apache-2.0"),
    _vision("cspdarknet53", "CSPDarknet, of YOLOv4", 1024, 105, name="timm:cspdarknet53.ra_in1k", licence="Apache-2.0"),
    _vision("dinov2", "DINOv2 S/14", 384, 84, name="timm:vit_small_patch14_dinov2.lvd142m", licence="Apache-2.0"),
    _hub("clip-image", "CLIP, images", "openai/clip-vit-base-patch32", "image", 512, 335, "MIT"),
    _own(
        *("chexnet", "CheXNet", "chexnet:CheXNet", "image", 1024, 27),
        preprocess={"size": 224, "crop_fraction": 0.875, "mean": _MEAN, "std": _STD},
    ),
    _own(
        *("stylegan", "StyleGAN's discriminator", "discriminators:StyleGANDiscriminator", "image", 128, 1),
        recipe=True,
        layers=("blocks",),
        preprocess={"size": 32, "mean": _HALF, "std": _HALF},
    ),
    _own(
        *("biggan", "BigGAN's discriminator", "discriminators:BigGANDiscriminator", "image", 64, 1),
        recipe=True,
        preprocess={"size": 32, "mean": _HALF, "std": _HALF},
    ),
    _built_in("minilm-l6", "MiniLM-L6", "text", 384, 87, "Apache-2.0"),
    _hub("bert", "BERT", "google-bert/bert-base-uncased", "text", 768, 418, "Apache-2.0"),
    _hub("roberta", "RoBERTa", "FacebookAI/roberta-base", "text", 768, 476, "MIT"),
    _hub("biobert", "BioBERT", "dmis-lab/biobert-base-cased-v1.2", "text", 768, 413, _PAGE),
    _hub("xlnet", "XLNet", "xlnet/xlnet-base-cased", "text", 768, 446, "MIT"),
    _hub("t5", "T5, its encoder", "google-t5/t5-small", "text", 512, 135, "Apache-2.0"),
    _hub("gpt2", "GPT-2", "openai-community/gpt2", "text", 768, 475, "MIT"),
    _hub("clip-text", "CLIP, texts", "openai/clip-vit-base-patch32", "text", 512, 242, "MIT"),
    _words(
        *("word2vec", "Word2Vec", "GoogleNews-vectors-negative300.bin", 1144, _PAGE),
        arguments={"max_words": 1_000_000},
    ),
    _words("glove", "GloVe", "glove.6B.300d.txt", 458, "PDDL-1.0"),
    _words("fasttext", "fastText", "wiki-news-300d-1M.vec", 1144, "CC-BY-SA-3.0"),
    _built_in("speech-embedding", "Google's speech embedding", "audio", 96, 2, "CC-BY-NC-SA-4.0"),
    _hub("wav2vec2", "Wav2Vec 2.0", "facebook/wav2vec2-base", "audio", 768, 360, "Apache-2.0"),
    _hub("hubert", "HuBERT", "facebook/hubert-base-ls960", "audio", 768, 360, "Apache-2.0"),
    _hub("wavlm", "WavLM", "microsoft/wavlm-base", "audio", 768, 361, _PAGE),
    _hub("whisper", "Whisper, its encoder", "openai/whisper-tiny", "audio", 384, 33, "Apache-2.0"),
    _own(
        *("deepspeech", "DeepSpeech", "speech:DeepSpeech", "audio", 64, 1),
        recipe=True,
        layers=("recurrent",),
        preprocess=_DEEP_SPEECH,
    ),
    _own(
        *("jasper", "Jasper", "speech:Jasper", "audio", 32, 1),
        recipe=True,
        layers=("blocks",),
        pooling="gap",
        preprocess=_JASPER,
    ),
    _own(
        *("deepvariant", "DeepVariant", "deepvariant:DeepVariant", "array", 2048, 83),
        preprocess={"shape": [100, 221, 7], "dtype": "uint8"},
    ),
    _own("dqn", "DQN", "games:DQN", "array", 512, 6.4, preprocess={"shape": [4, 84, 84], "dtype": "uint8"}),
    _own("ppo", "PPO", "games:PPO", "array", 64, 0.1, preprocess={"shape": [4]}),
    _own(
        *("alphago", "AlphaGo", "games:AlphaGo", "array", 32, 1),
        recipe=True,
        preprocess={"shape": [48, 19, 19], "dtype": "bool"},
    ),
)


def row_of(key: str) -> Row:
    """Return a row by its key, or by what `headwater export` takes; raises BackboneNotFound."""
    for row in TABLE:
        if key in (row.key, row.name):
            return row
    raise BackboneNotFound(f"the zoo has no {key!r}; {near(key, [row.key for row in TABLE])}; headwater zoo lists them")


def target(row: Row, weights: str | None) -> tuple[str, Choice | None]:
    """Return what to export for a row, with weights that are brought: for vectors of words, their file.

    Raises
    ------
    ExportError
        Vectors of words cannot be random, and what is built in has its weights.
    """
    if row.name in BUILT_IN and weights is not None:
        raise ExportError(f"{row.key} has its weights; leave --weights away")
    if row.name.startswith("words:") and weights == RANDOM:
        raise ExportError(f"{row.key} is a file of vectors, and has no architecture; name it: --weights FILE")
    if row.name.startswith("words:") and weights is not None:
        return f"words:{weights}", row.choice()
    return row.name, row.choice(weights)
