"""Policies and values of games: observations and boards -> moves, and before them what they are told by.

DQN (Mnih et al., 2015) and PPO (Schulman et al., 2017) name their weights as Stable-Baselines3's policies do, so that
they take its `policy.pth`, or the zip file around it. AlphaGo's is of the published kind, and by default smaller.
"""

from collections.abc import Sequence

import torch
from torch import nn

_FULL = 255.0  # of a byte: Stable-Baselines3 divides pictures by it


class _Features(nn.Module):
    """Pictures (n, channels, 84, 84) of 0 to 255 -> 512 features, as in Nature's DQN."""

    def __init__(self, n_channels: int, side: int) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(n_channels, 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            width = self.cnn(torch.zeros(1, n_channels, side, side)).shape[1]
        self.linear = nn.Sequential(nn.Linear(width, 512), nn.ReLU())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(self.cnn(pictures / _FULL))
        return found


class _Q(nn.Module):
    def __init__(self, n_channels: int, side: int, n_actions: int) -> None:
        super().__init__()
        self.features_extractor = _Features(n_channels, side)
        self.q_net = nn.Sequential(nn.Linear(512, n_actions))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.q_net(self.features_extractor(pictures))
        return found


class DQN(nn.Module):
    """Frames (n, 4, 84, 84), 0 to 255 -> values of actions; `penultimate` is the 512 features.

    Parameters
    ----------
    n_actions, n_channels, side : int
    """

    def __init__(self, n_actions: int = 6, n_channels: int = 4, side: int = 84) -> None:
        super().__init__()
        self.q_net = _Q(n_channels, side, n_actions)
        self.q_net_target = _Q(n_channels, side, n_actions)  # kept beside it in the file; it computes nothing here

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the values of actions (n, n_actions)."""
        found: torch.Tensor = self.q_net(frames)
        return found


class PPO(nn.Module):
    """Observations (n, n_inputs) -> what is to be done; `penultimate` is the policy's last hidden layer.

    Parameters
    ----------
    n_inputs, n_actions : int
    hidden : sequence of int
        Widths of the hidden layers, of the policy and of the value alike.
    continuous : bool
        Actions are numbers, whose spread is in the file too.
    """

    def __init__(
        self, n_inputs: int = 4, n_actions: int = 2, hidden: Sequence[int] = (64, 64), continuous: bool = False
    ) -> None:
        super().__init__()
        if continuous:
            self.log_std = nn.Parameter(torch.zeros(n_actions))
        self.mlp_extractor = nn.ModuleDict(
            {"policy_net": _layers(n_inputs, hidden), "value_net": _layers(n_inputs, hidden)}
        )
        self.action_net = nn.Linear(hidden[-1], n_actions)
        self.value_net = nn.Linear(hidden[-1], 1)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return logits, or means, of actions (n, n_actions); the value's layers are run before, to be tapped."""
        self.value_net(self.mlp_extractor["value_net"](observations))
        found: torch.Tensor = self.action_net(self.mlp_extractor["policy_net"](observations))
        return found


class AlphaGo(nn.Module):
    """Planes (n, 48, 19, 19) -> logits of moves (n, 361), by convolutions alone (Silver et al., 2016).

    Parameters
    ----------
    n_planes, n_filters, n_layers, side : int
        Published were 48, 192, 13 and 19.
    """

    def __init__(self, n_planes: int = 48, n_filters: int = 32, n_layers: int = 5, side: int = 19) -> None:
        super().__init__()
        first = [nn.Conv2d(n_planes, n_filters, 5, padding=2), nn.ReLU()]
        rest = [one for _ in range(n_layers - 2) for one in (nn.Conv2d(n_filters, n_filters, 3, padding=1), nn.ReLU())]
        self.body = nn.Sequential(*first, *rest)
        self.move = nn.Conv2d(n_filters, 1, 1)
        self.place = nn.Parameter(torch.zeros(side * side))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return logits of moves."""
        return torch.as_tensor(self.move(self.body(planes)).flatten(1) + self.place)


def _layers(n_inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    widths = [n_inputs, *hidden]
    return nn.Sequential(*(one for a, b in zip(widths, hidden, strict=False) for one in (nn.Linear(a, b), nn.Tanh())))
