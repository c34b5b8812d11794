"""`hf:REPOSITORY` or `hf:FOLDER`: a network of transformers -> its frozen encoder, for texts, images or sounds.

Read are the configuration, the weights (safetensors, or what torch reads with `weights_only`), the tokenizer and the
facts of the front end. No code of a repository is ever run.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from extractor.errors import ExportError
from extractor.zoo.choice import PENULTIMATE, RANDOM, Choice
from extractor.zoo.layer import Layer
from extractor.zoo.taps import Run, Tap, Tapped, find_tap, layers_of
from extractor.zoo.torch_network import RANDOM_SOURCE, TorchNetwork, brought, seeded
from extractor.zoo.torchvision_import import mend_torchvision
from extractor.zoo.weights import bring_weights

mend_torchvision()

import transformers  # noqa: E402  # it imports torchvision wherever that is installed

from extractor.zoo.hub_audio import audio_part  # noqa: E402
from extractor.zoo.hub_image import image_part  # noqa: E402
from extractor.zoo.hub_part import Part, facts_of, file_of, quiet  # noqa: E402
from extractor.zoo.hub_text import text_part  # noqa: E402

POOLER = "pooler"
_IN_TRAINING = ("masked_spec_embed", "mask_token", "mask_emb")  # weights that only hide parts of what is learnt from
_IMAGES = {"image_mean", "image_processor_type"}  # what a front end of images has
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)
_PARTS: dict[str, Callable[[str, Any, Choice], Part]] = {"text": text_part, "image": image_part, "audio": audio_part}


def build(reference: str, choice: Choice) -> TorchNetwork:
    """Load a network and its weights; `penultimate` is what the encoder gives, for CLIP its projection.

    Parameters
    ----------
    reference : str
        A repository on the Hub, as it is in the local cache or can be fetched; or a folder of the same files.
    choice : Choice

    Raises
    ------
    ExportError
        The files cannot be had or read, are not whole, or want code of theirs to be run; or there is no such layer.
    """
    part = _part(reference, choice)
    whole, source = _load(reference, part, choice)
    network = part.encoder(whole)
    layers = tuple(choice.layers or (PENULTIMATE,))
    tapped = Tapped(network, _taps(network, part, layers, choice))
    pooling = choice.pooling or part.pooling(tapped, network)
    return brought(
        f"{_called(reference).rpartition('/')[2]}{part.suffix}",
        part.embedder(tapped, network, "flatten" if pooling == POOLER else pooling),
        choice,
        input=part.input,
        preprocess=part.preprocess,
        example=part.example,
        items=part.items,
        pooling=pooling,
        source=f"{choice.source or _called(reference)}, {source}; {', '.join(layers)}",
        licence=_licence(reference),
        files=part.files,
    )


def layers(reference: str, choice: Choice) -> list[Layer]:
    """Return the layers of a network, which is made without its weights."""
    part = _part(reference, choice)
    network = part.encoder(_made(part, choice))
    return layers_of(network, [partial(run, network) for run in part.runs])


def _part(reference: str, choice: Choice) -> Part:
    if (reference.startswith((".", "/", "~")) or reference.count("/") > 1) and not Path(reference).is_dir():
        raise ExportError(f"there is no folder {reference}; name one with config.json and model.safetensors")
    try:
        config = transformers.AutoConfig.from_pretrained(reference, trust_remote_code=False)
    except Exception as error:  # of files, of the Hub, of transformers: they share no root
        raise _refused(reference, error) from None
    if hasattr(config, "vision_config") and config.model_type != "clip":
        raise ExportError(f"{reference} is a {config.model_type}: of networks with several towers hf: takes CLIP alone")
    modality = choice.modality or _modality(reference, config)
    if modality not in _PARTS:
        raise ExportError(f"modality is {modality!r}; hf: takes {', '.join(_PARTS)}")
    return _PARTS[modality](reference, config, choice)


def _modality(reference: str, config: Any) -> str:
    """Return what a network reads; CLIP's default is its image tower."""
    if config.model_type == "whisper" or hasattr(config, "conv_stride"):
        return "audio"
    if hasattr(config, "vision_config") or hasattr(config, "image_size"):
        return "image"
    if hasattr(config, "vocab_size"):
        return "text"
    told = facts_of(reference, "preprocessor_config.json")  # ResNet's configuration tells nothing of images
    return "image" if _IMAGES & told.keys() else "audio" if "sampling_rate" in told else "text"


def _load(reference: str, part: Part, choice: Choice) -> tuple[torch.nn.Module, str]:
    """Return the network with its weights, and where these come from."""
    if choice.weights == RANDOM:
        return _made(part, choice), RANDOM_SOURCE
    if choice.weights:
        network = _made(part, choice)
        return network, bring_weights(network, choice)
    if choice.arguments:
        raise ExportError(
            f"{reference} was made with what its config.json says; leave --arguments away, or say --weights beside"
        )
    try:
        with quiet():
            network, told = part.kind.from_pretrained(
                reference,
                config=part.config,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
                weights_only=True,
                trust_remote_code=False,
            )
    except Exception as error:  # as above, and of safetensors and pickle
        raise _refused(reference, error) from None
    _check_whole(reference, told, choice)
    commit = getattr(part.config, "_commit_hash", None)
    return network.eval(), f"its own weights, commit {commit}" if commit else "its own weights"


def _made(part: Part, choice: Choice) -> torch.nn.Module:
    seeded()
    automatic = hasattr(part.kind, "from_config")  # and only then it may run code of a repository
    make = part.kind.from_config if automatic else part.kind._from_config
    told = {"attn_implementation": "eager"} | ({"trust_remote_code": False} if automatic else {})
    try:
        network: torch.nn.Module = make(part.config, **told, **dict(choice.arguments or {}))
    except Exception as error:  # of transformers and torch: they share no root
        raise ExportError(f"the network cannot be made with --arguments {choice.arguments}: {error}") from None
    return network.eval()


def _check_whole(reference: str, told: Any, choice: Choice) -> None:
    """Check that the files had all weights: transformers draws those that lack at random, and only warns."""
    needed = [one for one in told["missing_keys"] if _is_used(one, choice)]
    wrong = [*sorted(needed), *(str(one) for one in told["mismatched_keys"])]
    if wrong:
        raise ExportError(
            f"{reference} lacks {len(wrong)} of the network's weights, or has them in other shapes: "
            f"{', '.join(wrong[:3])}; it was saved from another network, or is not whole"
        )


def _is_used(weight: str, choice: Choice) -> bool:
    """Return whether what is chosen is made with a weight: only the pooler itself is with the pooler's."""
    if weight.startswith(f"{POOLER}."):
        return choice.pooling == POOLER or any(name.partition(".")[0] == POOLER for name in choice.layers)
    return not weight.endswith(_IN_TRAINING)


def _refused(reference: str, error: Exception) -> ExportError:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return ExportError(
        f"transformers {transformers.__version__} cannot load {reference}: {type(error).__name__}: {lines[0][:300]}; "
        "nothing of it was executed; give a folder with config.json and model.safetensors whole, or a repository that "
        "can be reached"
    )


def _taps(network: torch.nn.Module, part: Part, layers: Sequence[str], choice: Choice) -> list[Tap]:
    if choice.pooling == POOLER:
        if choice.layers:
            raise ExportError("pooling 'pooler' is a layer itself; leave --layer away")
        if part.pooler is None or part.pooler.module not in dict(network.named_modules()):
            raise ExportError("the network has no pooler; take --pooling mean, cls, max or last")
        return [part.pooler]
    run: Run = list  # never run: penultimate is what the network gives
    return [Tap("") if name == PENULTIMATE else find_tap(network, name, run) for name in layers]


def _called(reference: str) -> str:
    return Path(reference).name if Path(reference).is_dir() else reference


def _licence(reference: str) -> str:
    """Return what the card beside the weights says."""
    card = file_of(reference, "README.md")
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")) if card else None
    return found.group(1) if found else "see its page on the Hub"
