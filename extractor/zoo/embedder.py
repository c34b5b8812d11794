"""What stands before and behind a torch network: prepared items in a batch -> embeddings (n, dim) float32.

One class for each form of input, whose `forward` names its arguments as the graph does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from extractor.errors import ExportError
from extractor.zoo.pooling import pool

Lengths = Callable[[torch.Tensor], torch.Tensor]


class Embedder(torch.nn.Module):
    """A network that gives layers, each pooled, all side by side, as in Head2Toe (Evci et al., 2022).

    Parameters
    ----------
    network : torch.nn.Module
        Gives a list of layers' values, each (n, …).
    pooling : str, optional
        See `extractor.zoo.pooling`.
    argument : str, optional
        What the network calls its items; by default its first argument.
    tokens : bool
        Layers with three axes are states of tokens; see `extractor.zoo.pooling`.
    """

    def __init__(
        self, network: torch.nn.Module, pooling: str | None = None, argument: str | None = None, tokens: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.pooling = pooling
        self.argument = argument
        self.tokens = tokens

    def embed(self, items: torch.Tensor, mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
        """Return the embeddings of what the network takes; the mask is for the pooling."""
        values = self.network(**{self.argument: items}, **more) if self.argument else self.network(items, **more)
        return torch.cat([pool(one, self.pooling, mask, tokens=self.tokens) for one in values], dim=1)


class ImageEmbedder(Embedder):
    """Of images; layers with three axes are states of tokens.

    Parameters
    ----------
    mean, std : sequence of float
        Of the channels, on the scale of 0 to 255.
    network, pooling, argument
        As in `Embedder`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: torch.nn.Module, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        super().__init__(network, tokens=True, **options)
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(-1, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (n, size, size, 3) uint8 to embeddings."""
        return self.embed((image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std)


class ArrayEmbedder(Embedder):
    """Of arrays; int64, as indices have it, goes in as it is, all else as float32.

    Parameters
    ----------
    scale : float
        What floats are multiplied by.
    network, pooling, argument
        As in `Embedder`.
    """

    def __init__(self, network: torch.nn.Module, scale: float = 1.0, **options: Any) -> None:
        super().__init__(network, **options)
        self.scale = scale

    def forward(self, array: torch.Tensor) -> torch.Tensor:
        """Map arrays (n, …) to embeddings."""
        return self.embed(array if array.dtype == torch.int64 else array.to(torch.float32) * self.scale)


class WaveformEmbedder(Embedder):
    """Of waveforms; see `ArrayEmbedder`."""

    def __init__(self, network: torch.nn.Module, scale: float = 1.0, **options: Any) -> None:
        super().__init__(network, **options)
        self.scale = scale

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Map waveforms (n, samples) float32 to embeddings."""
        return self.embed(waveform * self.scale)


class MaskedWaveformEmbedder(Embedder):
    """Of waveforms of different lengths, for a network that takes a mask of samples.

    Parameters
    ----------
    n_states : callable
        Lengths in samples (n,) -> how many states the network makes of each (n,).
    network, pooling, argument
        As in `Embedder`.
    """

    def __init__(self, network: torch.nn.Module, n_states: Lengths, **options: Any) -> None:
        super().__init__(network, **options)
        self.n_states = n_states

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Map waveforms (n, samples) float32 and lengths (n,) int64 to embeddings."""
        samples = torch.arange(waveform.shape[1]) < lengths.unsqueeze(1)
        values = self.network(**{self.argument or "input_values": waveform}, attention_mask=samples.to(torch.int64))
        own = self.n_states(lengths).unsqueeze(1)
        masks = [(torch.arange(one.shape[1]) < own).to(torch.float32) for one in values]
        if not torch.compiler.is_compiling() and any(one.shape[1] != own.max() for one in values):
            raise ExportError("a layer gives no states in time; choose one that does: list them with headwater layers")
        pooled = [pool(one, self.pooling, mask) for one, mask in zip(values, masks, strict=True)]
        return torch.cat(pooled, dim=1)


class SpectrogramEmbedder(Embedder):
    """Of log-mel spectrograms, for a network that takes bands first (n, n_mels, frames)."""

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Map spectrograms (n, frames, n_mels) float32 to embeddings."""
        return self.embed(log_mel.transpose(1, 2))


class WhisperEmbedder(Embedder):
    """Of log-mel spectrograms of 30 s, of which the silence behind a sound makes no state that counts.

    The silence that fills a sound up lies at the item's floor in every band; a state is made of two frames.
    """

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Map spectrograms (n, 3000, n_mels) float32 to embeddings."""
        heard = (log_mel > log_mel.amin(dim=(1, 2), keepdim=True)).any(dim=2)
        frames = torch.arange(1, log_mel.shape[1] + 1)
        last = (heard.to(torch.int64) * frames).amax(dim=1, keepdim=True).clamp(min=1)
        states = torch.arange(0, log_mel.shape[1], 2) < last
        return self.embed(log_mel.transpose(1, 2), states.to(torch.float32))


class TextEmbedder(Embedder):
    """Of texts, for a network that takes a mask of tokens.

    Parameters
    ----------
    float_mask : bool
        The network takes its mask as float32.
    projection : torch.nn.Module, optional
        Behind the pooling.
    network, pooling, argument
        As in `Embedder`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        float_mask: bool = False,
        projection: torch.nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.float_mask = float_mask
        self.projection = projection or torch.nn.Identity()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Map token ids and mask, both (n, tokens) int64, to embeddings."""
        given = attention_mask.to(torch.float32) if self.float_mask else attention_mask
        values = self.network(input_ids=input_ids, attention_mask=given)
        embeddings: torch.Tensor = self.projection(
            torch.cat([pool(one, self.pooling, attention_mask) for one in values], dim=1)
        )
        return embeddings
