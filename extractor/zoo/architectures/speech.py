"""Speech recognisers: spectrograms (n, bands, frames) -> scores of letters for each frame, and before them states.

Small ones, of the kinds of layers of Deep Speech (Hannun et al., 2014) and Jasper (Li et al., 2019). The recipes of
their spectrograms are told at `extractor.recipes.LogMelPreprocess`.
"""

import torch
from torch import nn

N_LETTERS = 29


class DeepSpeech(nn.Module):
    """Dense layers over a frame and its neighbours, then a recurrent one (LSTM) in both directions; choose `recurrent`.

    Parameters
    ----------
    n_bands : int
        Such as 161, the bins of 20 ms at 16 kHz.
    width : int
        Published were 2048.
    context : int
        Frames on each side that a dense layer sees.
    """

    def __init__(self, n_bands: int = 161, width: int = 32, context: int = 9) -> None:
        super().__init__()
        self.first = nn.Conv1d(n_bands, width, 2 * context + 1, padding=context)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, width)
        self.recurrent = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.letters = nn.Linear(2 * width, N_LETTERS)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return scores (n, frames, 29)."""
        frames = _clipped(self.first(spectrogram)).transpose(1, 2)
        states, _ = self.recurrent(_clipped(self.third(_clipped(self.second(frames)))))
        found: torch.Tensor = self.letters(states)
        return found


def _clipped(values: torch.Tensor) -> torch.Tensor:
    return torch.clamp(values, 0, 20)


class Jasper(nn.Module):
    """Blocks of convolutions over time, each with a residual; choose `blocks`, with `--pooling gap`.

    Parameters
    ----------
    n_bands : int
        Published were 64.
    width, n_blocks, n_repeats : int
        Published were 256 and more, 10 and 5.
    """

    def __init__(self, n_bands: int = 64, width: int = 32, n_blocks: int = 2, n_repeats: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(n_bands, width, 11, stride=2, padding=5), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(_Block(width, n_repeats) for _ in range(n_blocks)))
        self.letters = nn.Conv1d(width, N_LETTERS, 1)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return scores (n, 29, frames / 2)."""
        found: torch.Tensor = self.letters(self.blocks(self.first(spectrogram)))
        return found


class _Block(nn.Module):
    def __init__(self, width: int, n_repeats: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(n_repeats):
            layers += [nn.Conv1d(width, width, 11, padding=5), nn.BatchNorm1d(width), nn.ReLU()]
        self.repeats = nn.Sequential(*layers[:-1])
        self.residual = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.repeats(states) + self.residual(states))
