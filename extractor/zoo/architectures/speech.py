"""Speech recognisers: spectrograms (n, bands, frames) -> scores of letters for each frame, and before them states.

Small ones, of the kinds of layers of Deep Speech 2 (Amodei et al., 2016) and Jasper (Li et al., 2019). The recipes of
their spectrograms are told at `extractor.recipes.LogMelPreprocess`.
"""

import torch
from torch import nn

N_LETTERS = 29


class DeepSpeech(nn.Module):
    """Convolutions over bands and time, then recurrent layers in both directions; choose `recurrent`.

    Parameters
    ----------
    n_bands : int
        Published were 161, the bins of 20 ms at 16 kHz.
    width : int
        Of the recurrent layers in each direction; published were 800 and more.
    n_layers : int
    """

    def __init__(self, n_bands: int = 161, width: int = 32, n_layers: int = 2) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 8, (41, 11), stride=(2, 2), padding=(20, 5)),
            nn.BatchNorm2d(8),
            nn.Hardtanh(0, 20),
            nn.Conv2d(8, 8, (21, 11), stride=(2, 1), padding=(10, 5)),
            nn.BatchNorm2d(8),
            nn.Hardtanh(0, 20),
        )
        n_left = ((n_bands + 1) // 2 + 1) // 2
        self.recurrent = nn.GRU(8 * n_left, width, n_layers, batch_first=True, bidirectional=True)
        self.letters = nn.Linear(2 * width, N_LETTERS)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return scores (n, frames / 2, 29)."""
        maps = self.convolutions(spectrogram.unsqueeze(1))
        states, _ = self.recurrent(maps.flatten(1, 2).transpose(1, 2))
        found: torch.Tensor = self.letters(states)
        return found


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
