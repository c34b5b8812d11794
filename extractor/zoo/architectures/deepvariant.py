"""DeepVariant: pileups (n, height, width, channels) uint8 -> three genotypes, and before them 2048 features.

Inception v3 on a picture of the reads around a place in a genome, with a channel for each of their properties (Poplin
et al., 2018): 100 × 221 pixels, of 6 or 7 channels, brought to -1 to 1.
"""

import torch

from extractor.zoo.torchvision_import import mend_torchvision

N_CHANNELS, N_GENOTYPES = 7, 3
_MIDDLE = 128.0


class DeepVariant(torch.nn.Module):
    """Inception v3 on pileups; `penultimate` is what tells the genotypes.

    Parameters
    ----------
    n_channels : int
    n_genotypes : int
    """

    def __init__(self, n_channels: int = N_CHANNELS, n_genotypes: int = N_GENOTYPES) -> None:
        super().__init__()
        mend_torchvision()
        from torchvision.models.inception import BasicConv2d, inception_v3

        self.inception = inception_v3(weights=None, num_classes=n_genotypes, aux_logits=False, init_weights=False)
        self.inception.Conv2d_1a_3x3 = BasicConv2d(n_channels, 32, kernel_size=3, stride=2)

    def forward(self, pileup: torch.Tensor) -> torch.Tensor:
        """Map pileups (n, height, width, channels), floats of 0 to 255, to logits (n, 3)."""
        found: torch.Tensor = self.inception((pileup.permute(0, 3, 1, 2) - _MIDDLE) / _MIDDLE)
        return found
