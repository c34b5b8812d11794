"""Discriminators of generative networks: images (n, 3, side, side) -> one score, and before it maps of features.

Small ones, of the kinds of layers of StyleGAN (Karras et al., 2019 and 2020) and BigGAN (Brock et al., 2019).
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm


class StyleGANDiscriminator(nn.Module):
    """Residual blocks, and behind them how much a batch's images differ: choose `blocks`, before that.

    An embedding must not depend on its batch-mates, so the proof refuses what comes behind `blocks`.

    Parameters
    ----------
    side : int
        Of the images, a power of 2.
    width : int
        Channels of the first block.
    """

    def __init__(self, side: int = 32, width: int = 16) -> None:
        super().__init__()
        n_blocks = side.bit_length() - 3  # down to 4 × 4
        widths = [min(width * 2**place, 128) for place in range(n_blocks + 1)]
        self.from_rgb = nn.Conv2d(3, widths[0], 1)
        self.blocks = nn.Sequential(*(_Down(a, b) for a, b in pairwise(widths)))
        self.last = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.score = nn.Linear(widths[-1] * 16, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores (n, 1)."""
        maps = self.blocks(leaky_relu(self.from_rgb(image), 0.2))
        spread = maps.std(dim=0, correction=0).mean() * torch.ones_like(maps[:, :1])
        found: torch.Tensor = self.score(leaky_relu(self.last(torch.cat([maps, spread], dim=1)), 0.2).flatten(1))
        return found


class BigGANDiscriminator(nn.Module):
    """Residual blocks of which the largest stretch of each layer is 1; `penultimate` is their sum over the image.

    Parameters
    ----------
    width : int
        Channels of the first block.
    n_blocks : int
    """

    def __init__(self, width: int = 16, n_blocks: int = 3) -> None:
        super().__init__()
        widths = [3, *(width * 2**place for place in range(n_blocks))]
        self.blocks = nn.Sequential(*(_Stretch(a, b) for a, b in pairwise(widths)))
        self.score = spectral_norm(nn.Linear(widths[-1], 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores (n, 1)."""
        found: torch.Tensor = self.score(relu(self.blocks(image)).sum(dim=(2, 3)))
        return found


class _Down(nn.Module):
    """Half the side, and more channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_in, 3, padding=1)
        self.second = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = leaky_relu(self.second(leaky_relu(self.first(maps), 0.2)), 0.2)
        found: torch.Tensor = (avg_pool2d(made, 2) + self.skip(avg_pool2d(maps, 2))) / 2**0.5
        return found


class _Stretch(nn.Module):
    """Half the side, and more channels, with spectral normalisation (Miyato et al., 2018)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Conv2d(n_in, n_out, 3, padding=1))
        self.second = spectral_norm(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.skip = spectral_norm(nn.Conv2d(n_in, n_out, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        made = self.second(relu(self.first(relu(maps))))
        found: torch.Tensor = avg_pool2d(made, 2) + avg_pool2d(self.skip(maps), 2)
        return found
