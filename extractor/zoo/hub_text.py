"""A text network on the Hub -> its part for the export: BERT and its kin, XLNet, T5's encoder, GPT-2, CLIP's texts."""

from functools import cache
from typing import Any, cast

import numpy as np
import torch
import transformers

from extractor.errors import ExportError
from extractor.recipes import TextPreprocess
from extractor.spec import TOKENIZER_FILE, Input
from extractor.zoo.choice import Choice
from extractor.zoo.embedder import TextEmbedder
from extractor.zoo.front import recipe_of
from extractor.zoo.golden import TEXTS
from extractor.zoo.hub_part import Part, Run, facts_of, file_of
from extractor.zoo.hub_sentence import Sentence, projection_of, sentence_of
from extractor.zoo.taps import Tap
from extractor.zoo.tokenizer import least, n_positions, without_bounds

POOLINGS = ("mean", "cls", "max", "last", "pooler")
_FLOAT_MASK = ("xlnet",)  # which subtracts its mask from 1.0
_CLS_LAST = ("xlnet",)  # whose class token stands behind a text
_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)


def text_part(reference: str, config: Any, choice: Choice) -> Part:
    """Return the part of a repository that reads texts.

    Raises
    ------
    ExportError
        It has no fast tokenizer, or what was chosen does not fit it.
    """
    if choice.pooling is not None and choice.pooling not in POOLINGS:
        raise ExportError(f"pooling is {choice.pooling!r}; texts take {', '.join(POOLINGS)}")
    tokenizer, own = _tokenizer(reference), _own(config)
    facts = {"max_tokens": _max_tokens(reference, tokenizer, own)} | dict(choice.preprocess or {})
    preprocess = cast(TextPreprocess, recipe_of("text", facts))
    tokens = Input("int64", ("batch", "tokens"))
    clip = own is not config

    @cache
    def sentence() -> Sentence:  # not where layers are listed: there it may be one that is not made here
        return Sentence("none") if clip else sentence_of(reference, choice)

    def embedder(tapped: torch.nn.Module, _network: torch.nn.Module, pooling: str | None) -> TextEmbedder:
        named = None if pooling == "none" else pooling
        if choice.pooling == "cls" and config.model_type in _CLS_LAST:
            named = "last"
        projection = projection_of(reference, sentence(), choice)
        return TextEmbedder(tapped, config.model_type in _FLOAT_MASK, projection, pooling=named)

    return Part(
        kind=_kind(config, clip),
        config=own,
        input={"input_ids": tokens, "attention_mask": tokens},
        preprocess=preprocess,
        items=[text.encode() for text in TEXTS],
        example={name: np.ones((1, 5), np.int64) for name in ("input_ids", "attention_mask")},
        runs=[_run(n_tokens) for n_tokens in (5, 7)],
        embedder=embedder,
        pooling=lambda _tapped, _network: sentence().pooling,
        pooler=Tap("text_projection", takes=True) if clip else Tap("pooler"),
        suffix="-text" if clip else "",
        files={TOKENIZER_FILE: _json(reference, tokenizer)},
    )


def _own(config: Any) -> Any:
    """Return the configuration of what reads texts: of CLIP its text tower's."""
    return getattr(config, "text_config", config)


def _kind(config: Any, clip: bool) -> Any:
    if clip:
        return transformers.CLIPTextModelWithProjection
    return transformers.AutoModelForTextEncoding if config.is_encoder_decoder else transformers.AutoModel


def _tokenizer(reference: str) -> Any:
    """Return the tokenizer; without files transformers would make one of no words, and say nothing."""
    if not any(file_of(reference, name) for name in _TOKENIZERS):
        raise ExportError(
            f"{reference} has no tokenizer: none of {', '.join(_TOKENIZERS)}; put one beside its weights, or say "
            "--modality"
        )
    try:
        return transformers.AutoTokenizer.from_pretrained(reference, trust_remote_code=False)
    except Exception as error:  # of files, of the Hub, of the library: they share no root
        raise ExportError(
            f"{reference} has no tokenizer that can be read ({error}); put its tokenizer.json beside"
        ) from None


def _json(reference: str, tokenizer: Any) -> bytes:
    """Return the tokenizer as one file, without truncation and padding: the spec alone sets a limit."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(f"{reference} has a tokenizer in Python alone; convert it to a tokenizer.json")
    return without_bounds(backend.to_str())


def _max_tokens(reference: str, tokenizer: Any, config: Any) -> int:
    """Return the least of what the publisher, the tokenizer and the positions allow."""
    published = facts_of(reference, "sentence_bert_config.json").get("max_seq_length")
    return least([tokenizer.model_max_length, published, n_positions(config.to_dict())])


def _run(n_tokens: int) -> Run:
    def run(network: torch.nn.Module) -> Any:
        ids = torch.ones(1, n_tokens, dtype=torch.int64)
        return network(input_ids=ids, attention_mask=ids.to(torch.float32).clone())

    return run
