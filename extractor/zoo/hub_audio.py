"""A network of sounds on the Hub -> its part for the export: Wav2Vec 2.0, HuBERT, WavLM, and Whisper's encoder.

Networks that normalise each channel over a whole sound (`feat_extract_norm="group"`, the base sizes) were trained
without a mask and see padding as sound, so their items are not padded: only those of one length share a forward.
Those that normalise each frame take a mask.
"""

from typing import Any, cast

import numpy as np
import torch
import transformers

from extractor.errors import ExportError
from extractor.recipes import AudioPreprocess, LogMelPreprocess
from extractor.spec import LENGTHS, Input
from extractor.zoo.choice import Choice
from extractor.zoo.embedder import Embedder, MaskedWaveformEmbedder, WaveformEmbedder, WhisperEmbedder
from extractor.zoo.front import longest, recipe_of
from extractor.zoo.golden.sounds import sounds
from extractor.zoo.hub_part import Part, Run, facts_of

_RATE = 16_000
_HOP = 160


def audio_part(reference: str, config: Any, choice: Choice) -> Part:
    """Return the part of a repository that hears; raises ExportError where what was chosen does not fit it."""
    told = facts_of(reference, "preprocessor_config.json")
    told = told or facts_of(reference, "processor_config.json").get("feature_extractor", {})
    if config.model_type == "whisper":
        return _whisper(config, told, choice)
    if not hasattr(config, "conv_stride"):
        raise ExportError(
            f"{reference} is a {config.model_type}: of networks of sounds hf: takes Wav2Vec 2.0 and its kin, and "
            "Whisper; say another --modality, or bring it as torch:MODULE:FACTORY"
        )
    return _waveforms(config, told, choice)


def _waveforms(config: Any, told: dict[str, Any], choice: Choice) -> Part:
    rate = told.get("sampling_rate", _RATE)
    facts = {
        "sample_rate": rate,
        "min_samples": _field(config),
        "unit_variance": bool(told.get("do_normalize", True)),
    } | dict(choice.preprocess or {})
    preprocess = cast(AudioPreprocess, recipe_of("audio", {"max_samples": longest(facts)} | facts))
    pads = getattr(config, "feat_extract_norm", "group") == "layer"
    n_samples = min(preprocess.max_samples, max(preprocess.min_samples, rate))
    example: dict[str, Any] = {"waveform": _drawn(n_samples)}

    def embedder(tapped: torch.nn.Module, network: Any, pooling: str | None) -> Embedder:
        if pads:
            n_states = network._get_feat_extract_output_lengths
            return MaskedWaveformEmbedder(tapped, n_states, pooling=pooling, argument="input_values")
        # `gap` says by itself that it is of maps: the convolutions' (n, channels, frames).
        return WaveformEmbedder(tapped, pooling=pooling, argument="input_values", tokens=pooling != "gap")

    return Part(
        kind=transformers.AutoModel,
        config=config,
        input={"waveform": Input("float32", ("batch", "samples"))}
        | ({LENGTHS: Input("int64", ("batch",))} if pads else {}),
        preprocess=preprocess,
        items=sounds(),
        example=example | ({LENGTHS: np.array([n_samples])} if pads else {}),
        runs=[_run(n_samples), _run(2 * n_samples)],
        embedder=embedder,
        pooling=lambda _tapped, _network: "mean",
    )


def _whisper(config: Any, told: dict[str, Any], choice: Choice) -> Part:
    n_frames = 2 * config.max_source_positions  # which two convolutions halve
    facts = {
        "recipe": LogMelPreprocess.recipe,
        "sample_rate": told.get("sampling_rate", _RATE),
        "min_samples": n_frames * _HOP,
        "max_samples": n_frames * _HOP,
        "n_mels": config.num_mel_bins,
        "drop_last": True,
        "dynamic_range": 8.0,
        "offset": 4.0,
        "scale": 0.25,
    } | dict(choice.preprocess or {})
    preprocess = cast(LogMelPreprocess, recipe_of("audio", facts))

    def embedder(tapped: torch.nn.Module, _network: torch.nn.Module, pooling: str | None) -> Embedder:
        return WhisperEmbedder(tapped, pooling=pooling)

    shape = (n_frames, config.num_mel_bins)
    return Part(
        kind=transformers.AutoModel,
        config=config,
        input={"log_mel": Input("float32", ("batch", *shape))},
        preprocess=preprocess,
        items=sounds(),
        example={"log_mel": np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)},
        runs=[lambda network: network(torch.zeros(1, *shape[::-1]))],
        embedder=embedder,
        pooling=lambda _tapped, _network: "mean",
        encoder=lambda network: cast(Any, network).encoder,
    )


def _field(config: Any) -> int:
    """Return the samples of which the first state is made."""
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return int(field)


def _run(n_samples: int) -> Run:
    return lambda network: network(torch.from_numpy(_drawn(n_samples)))


def _drawn(n_samples: int) -> Any:
    return np.random.default_rng(0).standard_normal((1, n_samples)).astype(np.float32)
