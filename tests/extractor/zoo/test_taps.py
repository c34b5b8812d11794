"""Layers of torch networks: by name, the penultimate, their list; and pooling, against NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from extractor import zoo
from extractor.errors import ExportError
from extractor.zoo.choice import Choice
from extractor.zoo.layer import Layer
from extractor.zoo.pooling import pool
from extractor.zoo.taps import Tap, Tapped, find_tap, layers_of
from tests.hub_folders import hub, write_hub_folder


class Network(torch.nn.Module):
    """A convolution, a pair of values, a linear layer; an unused one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(3, 5, 3)
        self.pair = Pair()
        self.classifier = torch.nn.Linear(5, 2)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled, _ = self.pair(self.conv(x))
        return {"logits": self.classifier(pooled)}


class Pair(torch.nn.Module):
    """Gives a tuple."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return x.mean(dim=2), "more"


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    return Network().eval()


def test_taps_give_what_modules_compute(network: Network) -> None:
    x = torch.randn(2, 3, 9)
    run = [lambda: network(x)][0]
    names = ["conv", "pair", "classifier", "penultimate", ""]
    taps = [find_tap(network, name, run) for name in names]
    assert taps[3] == Tap("classifier", takes=True)
    conv, pair, classifier, penultimate, whole = Tapped(network, taps)(x)
    with torch.no_grad():
        expected = network.conv(x)
    torch.testing.assert_close(conv, expected)
    torch.testing.assert_close(pair, expected.mean(dim=2))
    torch.testing.assert_close(penultimate, pair)
    torch.testing.assert_close(whole, classifier)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_a_later_step_writes_in_place_does_not_show() -> None:
    torch.manual_seed(2)
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(inplace=True), torch.nn.Linear(6, 2)).eval()
    x = torch.randn(3, 4)
    with torch.inference_mode():
        first, inputs = Tapped(network, [Tap("0"), Tap("1", takes=True)])(x)
        torch.testing.assert_close(first, network[0](x), rtol=0, atol=0)
    torch.testing.assert_close(inputs, first, rtol=0, atol=0)
    assert first.min() < 0


def test_layers_are_listed_with_shapes(network: Network) -> None:
    runs = [lambda n=n: network(torch.zeros(1, 3, n)) for n in (9, 12)]
    assert layers_of(network, runs) == [
        Layer("conv", "", "Conv1d", ("batch", 5, "length")),
        Layer("pair", "", "Pair", ("batch", 5)),
        Layer("classifier", "", "Linear", ("batch", 2)),
    ]


def test_a_layer_that_is_not_there_is_named_with_those_near(network: Network) -> None:
    with pytest.raises(ExportError, match=r"no layer 'clasifier'; near it are 'classifier'"):
        find_tap(network, "clasifier", list)
    with pytest.raises(ExportError, match="has no linear layer"):
        find_tap(torch.nn.ReLU(), "penultimate", list)


def test_pooling_is_numpys() -> None:
    draw = np.random.default_rng(0)
    maps, states = draw.normal(size=(4, 3, 5, 6)).astype("f"), draw.normal(size=(4, 5, 3)).astype("f")
    cases = [
        (maps, "gap", maps.mean((2, 3))),
        (maps, None, maps.mean((2, 3))),
        (maps, "max", maps.max((2, 3))),
        (maps, "mean", maps.mean((1, 2))),  # as Swin has them, channels last
        (maps, "flatten", maps.reshape(4, -1)),
        (states, None, states.mean(1)),
        (states, "cls", states[:, 0]),
        (states, "last", states[:, -1]),
        (maps[:, :, 0, 0], "gap", maps[:, :, 0, 0]),
    ]
    for values, how, expected in cases:
        np.testing.assert_allclose(pool(torch.tensor(values), how).numpy(), expected, atol=1e-6)


def test_tokens_and_maps_whose_dim_is_last_are_pooled_over_places() -> None:
    draw = np.random.default_rng(0)
    maps, swin, states = (draw.normal(size=size).astype("f") for size in ((4, 3, 5, 5), (4, 5, 5, 3), (4, 5, 3)))
    cases = [
        (maps, None, maps.mean((2, 3))),
        (maps, "max", maps.max((2, 3))),
        (maps[:, :, :3, :3], "gap", maps[:, :, :3, :3].mean((2, 3))),  # three of each: as convolutions have them
        (swin, None, swin.mean((1, 2))),
        (swin, "gap", swin.mean((1, 2))),
        (swin, "mean", swin.mean((1, 2))),
        (swin, "max", swin.max((1, 2))),
        (swin, "flatten", swin.reshape(4, -1)),
        (states, None, states.mean(1)),
        (states, "max", states.max(1)),
    ]
    for values, how, expected in cases:
        np.testing.assert_allclose(pool(torch.tensor(values), how, tokens=True).numpy(), expected, atol=1e-6)
    for values, how, said in ((states, "gap", "gap takes maps of .*; take mean"), (maps, "mean", "mean takes states")):
        with pytest.raises(ExportError, match=said):
            pool(torch.tensor(values), how, tokens=True)


def test_states_of_sounds_without_a_mask_are_pooled_over_time(tmp_path: Path) -> None:
    folder = write_hub_folder(tmp_path / "wav2vec2", "wav2vec2")
    network = hub.AutoModel.from_pretrained(folder).eval()
    waveform = np.random.default_rng(0).normal(size=(1, 5000)).astype(np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(waveform))
    convolved = found.extract_features
    for choice, expected in (
        (Choice(pooling="max"), found.last_hidden_state.amax(1)),
        (Choice(pooling="mean"), found.last_hidden_state.mean(1)),
        (Choice(layers=("feature_projection.layer_norm",), pooling="max"), convolved.amax(1)),
    ):
        np.testing.assert_allclose(
            zoo.build(f"hf:{folder}", choice).reference({"waveform": waveform}), expected, atol=1e-5
        )
    maps = zoo.build(f"hf:{folder}", Choice(layers=("feature_extractor",), pooling="gap"))
    assert maps.reference({"waveform": waveform}).shape == (1, 16)  # of channels, which come first there


def test_padding_takes_no_part() -> None:
    states = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("f") - 5
    lengths = np.array([1, 6, 3, 4])
    mask = (np.arange(6) < lengths[:, None]).astype(np.int64)
    for how, numpy_pool in {
        "mean": lambda one: one.mean(0),
        "max": lambda one: one.max(0),
        "last": lambda one: one[-1],
        "cls": lambda one: one[0],
    }.items():
        expected = [numpy_pool(one[:n]) for one, n in zip(states, lengths, strict=True)]
        found = pool(torch.tensor(states), how, torch.tensor(mask)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=how)


@pytest.mark.parametrize(
    ("shape", "how", "mask", "said"),
    [
        ((2, 3, 4, 4), "best", None, "pooling is 'best', not one of"),
        ((2,), None, None, "its first axis is to be the batch"),
        ((2, 3, 4, 4), "cls", None, "take gap or max"),
        ((2, 3, 4), "flatten", (2, 3), "would take padding in"),
        ((2, 3, 4), "mean", (2, 4), "no states of its 4 places"),
        ((2, 3, 4, 4), "mean", (2, 3), "no states of its 3 places"),
    ],
)
def test_what_cannot_be_pooled_is_refused(shape: tuple, how: str | None, mask: tuple | None, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        pool(torch.zeros(shape), how, None if mask is None else torch.ones(mask))
