"""A recurrent memory of a trial: what an agent that remembers knows of its hidden task."""

import math

import torch
from torch import Tensor, nn

from metarl.agents.networks import tanh


class GruMemory(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) over embedded inputs."""

    def __init__(self, inputs: int, embedding: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.utils.skip_init(nn.Linear, inputs, embedding)
        with torch.random.fork_rng(devices=[]):  # its own weights, replaced below, draw from there
            self.gru = nn.GRU(embedding, size)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                bound = 1 / math.sqrt(inputs if name.startswith("embed") else size)
                weight.uniform_(-bound, bound, generator=generator)

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The states (T, N, S) after each of the inputs (T, N, I), from a state (N, S)."""
        return self.gru(tanh(self.embed(inputs)), hidden[None])[0]

    def step(self, inputs: Tensor, state: Tensor, cache: tuple = ()) -> tuple[Tensor, tuple]:
        """The state (N, S) after one more input (N, I); the state is all that is kept."""
        return self(inputs[None], state)[0], cache

    def trial(self, inputs: Tensor) -> Tensor:
        """The states (T + 1, N, S) before each step of a trial (T, N, I) and after its last."""
        start = inputs.new_zeros(inputs.shape[1], self.size)
        return torch.cat([start[None], self(inputs, start)])
