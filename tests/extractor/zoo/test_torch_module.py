"""`torch:MODULE:FACTORY`: Stable-Baselines3's policies, modules of a file, recipes; and what is refused."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from extractor import Extractor, zoo
from extractor.errors import ExportError
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.architectures.chexnet import CheXNet
from extractor.zoo.architectures.games import DQN, PPO
from extractor.zoo.choice import Choice
from tests.tiny import noise, wav

MEL = {"recipe": "log-mel/1", "sample_rate": 16_000, "n_mels": 7}
PIXELS = {"size": 8, "mean": [127.5], "std": [58.0]}
GAMES = "torch:extractor.zoo.architectures.games"
OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Conv1d(1, width, 9, stride=4)
        self.outer = torch.nn.Linear(width, 2)

    def forward(self, waveform):
        return self.outer(torch.relu(self.inner(waveform.unsqueeze(1))).mean(dim=2))

def make(width=3):
    return Net(width)

def wrong():
    return {"not": "a network"}

def broken():
    return torch.nn.Sequential(torch.nn.Linear(5, 2))

def fails():
    raise ValueError("bad luck")

class Stuck(torch.nn.Dropout):
    def train(self, mode=True):
        return self

def stuck():
    return torch.nn.Sequential(torch.nn.Linear(7, 2), Stuck())

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.idle, self.outer = (torch.nn.Linear(7, 7) for _ in range(3))

    def forward(self, x):
        return self.outer(torch.nn.functional.dropout(self.inner(x), 0.5, training=True))

def noisy():
    return Noisy()
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own_networks.py").write_text(OWN)
    return f"torch:{tmp_path / 'own_networks.py'}"


def test_a_policy_of_stable_baselines3_is_read_from_its_zip(tmp_path: Path) -> None:
    torch.manual_seed(5)
    policy = PPO(n_inputs=3, n_actions=1, continuous=True)
    assert {  # the names that Stable-Baselines3 gives
        *("log_std", "mlp_extractor.policy_net.0.weight", "mlp_extractor.value_net.2.bias"),
        *("action_net.weight", "value_net.weight"),
    } <= policy.state_dict().keys()
    content = io.BytesIO()
    torch.save(policy.state_dict(), content)
    with zipfile.ZipFile(tmp_path / "pendulum.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", content.getvalue())
    choice = Choice(
        weights=str(tmp_path / "pendulum.zip"),
        arguments={"n_inputs": 3, "n_actions": 1, "continuous": True},
        preprocess={"shape": [3]},
        layers=["mlp_extractor.policy_net.3", "mlp_extractor.value_net"],
        name="pendulum",
    )
    folder = export(f"{GAMES}:PPO", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.name, spec.modality, spec.dim) == ("pendulum", "array", 128)
    observations = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    extractor_of = policy.mlp_extractor
    with torch.inference_mode():
        given = torch.from_numpy(observations)
        expected = torch.cat([extractor_of[name](given) for name in ("policy_net", "value_net")], dim=1)
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract(observations), expected, atol=1e-6)


def test_a_module_of_a_file_hears(own: str, tmp_path: Path) -> None:
    (tmp_path / "unused").mkdir()
    choice = Choice(
        weights="random",
        modality="audio",
        scale=100.0,
        arguments={"width": 5},
        preprocess={"sample_rate": 8000, "min_samples": 100, "max_samples": 4000},
    )
    folder = export(f"{own}:make", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.dim, spec.input["waveform"].shape, spec.pads) == (5, ("batch", "samples"), False)
    network = zoo.build(f"{own}:make", choice).module.network.network
    sounds = [noise(n, seed=n) for n in (100, 900, 901, 4000)]
    with torch.inference_mode():
        rows = [
            torch.relu(network.inner(100 * torch.from_numpy(one.astype(np.float32)).view(1, 1, -1))).mean(dim=2)
            for one in sounds
        ]
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract([wav(one) for one in sounds]), torch.cat(rows), rtol=1e-3)
    assert [one.name for one in zoo.layers(f"{own}:make", choice)] == ["inner", "outer"]


def test_frames_of_a_game_come_as_bytes() -> None:
    choice = Choice(weights="random", preprocess={"shape": [4, 84, 84], "dtype": "uint8"})
    network = zoo.build(f"{GAMES}:DQN", choice)
    frames = np.random.default_rng(0).integers(0, 256, (1, 4, 84, 84), np.uint8)
    torch.manual_seed(0)
    dqn = DQN().eval()
    with torch.inference_mode():
        expected = dqn.q_net.features_extractor(torch.from_numpy(frames).to(torch.float32))
    np.testing.assert_allclose(network.reference({"array": frames}), expected, atol=1e-6)
    assert "q_net.features_extractor.cnn.0.weight" in dqn.state_dict()  # as Stable-Baselines3 has it
    assert {"q_net.q_net.0.weight", "q_net_target.q_net.0.bias"} <= dqn.state_dict().keys()


def test_chexnet_takes_the_names_of_an_older_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = CheXNet()
    inner = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    old = {"module." + inner.sub(r"\1.\2", name): one for name, one in network.state_dict().items()}
    assert any(".norm.1." in name for name in old)
    torch.save({"epoch": 1, "state_dict": old}, tmp_path / "model.pth.tar")
    facts = {"size": 64, "mean": [123.0] * 3, "std": [58.0] * 3}
    choice = Choice(weights=str(tmp_path / "model.pth.tar"), modality="image", preprocess=facts)
    built = zoo.build("torch:extractor.zoo.architectures.chexnet:CheXNet", choice)
    assert (built.dim, built.modality) == (1024, "image")
    loaded = built.module.network.network
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_a_layer_is_taken_once() -> None:
    twice = Choice(weights="random", preprocess={"shape": [4]}, layers=["mlp_extractor.policy_net"] * 2)
    assert zoo.build(f"{GAMES}:PPO", twice).dim == 64


def test_rows_are_not_pooled() -> None:
    facts = {"weights": "random", "preprocess": {"shape": [4]}}
    assert zoo.build(f"{GAMES}:PPO", Choice(**facts)).pooling == "none"
    assert zoo.build(f"{GAMES}:PPO", Choice(**facts, pooling="flatten")).pooling == "flatten"
    with pytest.raises(ExportError, match=r"the layers give \(1, 64\) for one item, rows already; leave --pooling max"):
        zoo.build(f"{GAMES}:PPO", Choice(**facts, pooling="max"))


@pytest.mark.parametrize(
    ("factory", "options", "said"),
    [
        ("absent", {}, "has no function 'absent'"),
        ("make", {"arguments": {"depth": 3}}, "cannot be called with --arguments"),
        ("wrong", {}, "gives a dict, not a torch.nn.Module"),
        ("broken", {}, "cannot run one item of its own shape"),
        ("broken", {"layers": ()}, "cannot run one item of its own shape: RuntimeError: .*say with --preprocess"),
        ("stuck", {}, "gives a network whose '1' stays in training mode after eval"),
        ("noisy", {"layers": ["idle"]}, "layer 'idle' takes no part when the network embeds"),
        ("make", {"modality": "audio", "preprocess": MEL, "scale": 2.0}, "scale is 2; it is for waveforms"),
        ("make", {"weights": None}, "needs --weights FILE"),
        ("make", {"preprocess": None}, "say the shape of one array"),
        ("make", {"modality": "text"}, "torch: takes array, image, audio"),
        ("make", {"modality": "audio"}, "say how many samples a second"),
        ("make", {"modality": "image"}, "say size, mean, std"),
        ("make", {"modality": "image", "preprocess": {**PIXELS, "mean": 127.5}}, "mean is 127.5, not one number or"),
        ("make", {"modality": "image", "preprocess": {**PIXELS, "std": ["a"]}}, "std is 'a', not a finite number"),
        ("make", {"modality": "audio", "preprocess": {"sample_rate": "16k"}}, "sample_rate is '16k', not a positive"),
        ("make", {"modality": "audio", "preprocess": {"sample_rate": None}}, "sample_rate is None, not a positive"),
        ("make", {"modality": "audio", "preprocess": {"sample_rate": 16000.0}}, "sample_rate is 16000.0, not a pos"),
        ("make", {"modality": "audio", "preprocess": {**MEL, "dynamic_range": "x"}}, "dynamic_range is 'x', not a fin"),
        ("make", {"mask": "mask", "pads": True}, "torch: takes no --mask"),
        ("make", {"preprocess": {"shape": [7], "dtype": "complex64"}}, "no recipe for array"),
        ("make", {"preprocess": {"shape": [7], "dytpe": "bool"}}, r"has no 'dytpe' in npy/1, only dtype, shape, "),
        ("fails", {}, r"py:fails makes no network: ValueError: bad luck \(own_networks\.py, line \d+\); mend it"),
    ],
)
def test_what_does_not_fit_is_refused(own: str, factory: str, options: dict, said: str) -> None:
    facts = {"weights": "random", "preprocess": {"shape": [7]}} | options
    if factory == "broken":
        facts.setdefault("layers", ["0"])
    with pytest.raises(ExportError, match=said):
        zoo.build(f"{own}:{factory}", Choice(**facts))


def test_a_dropout_that_is_always_on_is_refused(own: str, tmp_path: Path) -> None:
    choice = Choice(weights="random", preprocess={"shape": [7]})
    with pytest.raises(ExportError, match="gives other values when it runs the same item again"):
        export(f"{own}:noisy", tmp_path / "out", choice=choice)
    listed = zoo.layers(f"{own}:noisy", choice)
    assert [one.name for one in listed] == ["inner", "outer"]
    with pytest.raises(ExportError, match="cannot run one item of its own shape"):
        zoo.layers(f"{own}:noisy", Choice(preprocess={"shape": [8]}))


def test_a_module_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "cut.py").write_text("def make(:")
    with pytest.raises(ExportError, match=r"cut\.py cannot be imported: SyntaxError: .*line 1\); mend it"):
        zoo.build(f"torch:{tmp_path / 'cut.py'}:make", Choice(weights="random"))


@pytest.mark.parametrize("reference", ["networks", "no_such_package.inner:make", "absent.py:make"])
def test_a_reference_that_names_nothing_is_refused(reference: str) -> None:
    with pytest.raises(ExportError, match=r"torch:package\.module:function"):
        zoo.build(f"torch:{reference}", Choice(weights="random"))


def test_a_layer_that_looks_at_a_whole_batch_is_refused(tmp_path: Path) -> None:
    name = "torch:extractor.zoo.architectures.discriminators:StyleGANDiscriminator"
    facts = {"size": 16, "mean": [127.5] * 3, "std": [127.5] * 3}
    choice = Choice(weights="random", modality="image", arguments={"side": 16}, preprocess=facts)
    with pytest.raises(ExportError, match=r"differs from torch at a batch of 7.*nothing was written"):
        export(name, tmp_path / "out", choice=choice)
    assert not (tmp_path / "out").exists()
