"""Folders as the Hub has them, with drawn weights or none: a family's name -> configuration, tokenizer, front end."""

import json
import string
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from extractor.zoo.torchvision_import import mend_torchvision

mend_torchvision()

import transformers as hub  # noqa: E402  # it imports torchvision wherever that is installed

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
LETTERS = string.ascii_lowercase + string.digits
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL, *LETTERS, *(f"##{one}" for one in LETTERS), "cat", "dog"])}

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(VOCABULARY),
}
_EYES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32}
_EARS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_TOWERS = {
    "text_config": {**_BERT, "projection_dim": 16, "bos_token_id": 1, "eos_token_id": 2},
    "vision_config": {**_EYES, "patch_size": 8, "projection_dim": 16},
    "projection_dim": 16,
}
_XLNET = {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}  # the base size

# What each family's configuration and network are called; its small size; what its true one has beside the defaults.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", _BERT, {}),
    "biobert": ("BertConfig", "BertModel", _BERT, {"vocab_size": 28_996}),
    "roberta": ("RobertaConfig", "RobertaModel", {**_BERT, "max_position_embeddings": 66}, {}),
    "gpt2": (
        "GPT2Config",
        "GPT2Model",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": len(VOCABULARY)},
        {},
    ),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(VOCABULARY)},
        {},
    ),
    "xlnet": (
        "XLNetConfig",
        "XLNetModel",
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": len(VOCABULARY)},
        _XLNET,
    ),
    "clip-image": ("CLIPConfig", "CLIPModel", _TOWERS, {}),
    "clip-text": ("CLIPConfig", "CLIPModel", _TOWERS, {}),
    "vit": ("ViTConfig", "ViTModel", {**_EYES, "patch_size": 8}, {}),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", _EARS, {}),
    "wav2vec2-layer": (
        "Wav2Vec2Config",
        "Wav2Vec2Model",
        {**_EARS, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
        {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    ),
    "hubert": ("HubertConfig", "HubertModel", _EARS, {}),
    "wavlm": ("WavLMConfig", "WavLMModel", _EARS, {}),
    "whisper": (
        "WhisperConfig",
        "WhisperModel",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "max_source_positions": 50,
            "vocab_size": 99,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
        },
        {},
    ),
}
READERS = ("bert", "biobert", "roberta", "gpt2", "t5", "xlnet", "clip-text")
SEERS = ("clip-image", "vit")


def write_hub_folder(folder: Path, family: str, *, true_size: bool = False, weights: bool = True) -> Path:
    """Write a folder as the Hub has it."""
    import torch

    config_name, network_name, small, true = FAMILIES[family]
    config = getattr(hub, config_name)(**(true if true_size else small))
    folder.mkdir(parents=True, exist_ok=True)
    if weights:
        torch.manual_seed(7)
        getattr(hub, network_name)(config).eval().save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    if family in READERS:
        write_tokenizer(folder, 77 if true_size and family == "clip-text" else 64)
    if family in SEERS:
        size = 224 if true_size else 32
        facts = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": size}, "resample": 3}
        facts |= {"crop_size": {"height": size, "width": size}, "do_center_crop": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def write_tokenizer(folder: Path, max_length: int) -> None:
    """Write a tokenizer of letters, of a few words, and of special tokens on both sides."""
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))  # no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    hub.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=max_length
    ).save_pretrained(folder)
