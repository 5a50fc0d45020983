"""A memory of a trial that attends to all of its steps: a causal transformer with cached keys.

Vaswani et al., "Attention Is All You Need" (2017), with layers normalised before, not after, what
they do, and positions told by how far back a step is (Press et al., "Train Short, Test Long:
Attention with Linear Biases", 2022), so that trials may be longer than those trained on.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metarl.agents.networks import mlp

_BLOCK = 32  # steps of a piece of the cache

# What each layer's keys and values were at past steps, in pieces (layers, 2, N, heads, steps, E)
# one after the other. Only the last piece is copied when a step comes, and none is ever changed: a
# belief from before that step stays as it was.
Cache = tuple[Tensor, ...]


class TransformerMemory(nn.Module):
    """A causal transformer over embedded inputs."""

    def __init__(
        self, inputs: int, size: int, layers: int, heads: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.size = size
        self.embed = mlp([inputs, size], generator, nn.GELU)
        self.layers = nn.ModuleList(_Layer(size, layers, heads, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def step(self, inputs: Tensor, state: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """The state (N, S) after one more input (N, I), and the cache that goes with it. Its cost
        grows with the steps in the cache: none of them is computed again."""
        x, added = self.embed(inputs)[:, None], []
        for i, layer in enumerate(self.layers):
            x, pair = layer(x, [piece[i] for piece in cache])
            added.append(pair)
        return self.norm(x[:, 0]), _longer(cache, torch.stack(added))

    def trial(self, inputs: Tensor) -> Tensor:
        """The states (T + 1, N, S) before each step of a trial (T, N, I) and after its last."""
        x = self.embed(inputs).transpose(0, 1)
        for layer in self.layers:
            x, _ = layer(x, [])
        states = self.norm(x).transpose(0, 1)
        return torch.cat([torch.zeros_like(states[:1]), states])


class _Layer(nn.Module):
    """Attention, and a small network at each step."""

    slopes: Tensor

    def __init__(self, size: int, layers: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(size), nn.LayerNorm(size)
        self.project = mlp([size, 3 * size], generator, nn.GELU)
        self.join = mlp([size, size], generator, nn.GELU)
        self.think = mlp([size, 2 * size, size], generator, nn.GELU)
        with torch.no_grad():  # what is added up along the layers stays of order 1
            for last in (self.join[-1], self.think[-1]):
                last.weight.mul_((2 * layers) ** -0.5)  # pyright: ignore[reportCallIssue]
        slopes = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What becomes of steps (N, T, S) that follow those in the cache's pieces (2, N, heads,
        steps, E); and their own keys and values, a further piece."""
        query, *pair = self.project(self.before(x)).chunk(3, -1)
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, *pair)
        )  # (N, heads, T, E)
        piece = torch.stack([key, value])
        if past:
            found = _attended(query, [*past, piece], self._distance)
        else:  # of a whole trial: without ever holding all of its scores
            distance = self._distance(key.shape[-2], key.shape[-2])
            found = nn.functional.scaled_dot_product_attention(query, key, value, distance[None])
        x = x + self.join(found.transpose(1, 2).flatten(2))
        return x + self.think(self.between(x)), piece

    def _distance(self, steps: int, known: int) -> Tensor:
        """What is added to scores (heads, T, C) of the last T of C steps: the less the further
        back a step is, and minus infinity if it is still to come."""
        time = torch.arange(known, device=self.slopes.device)
        back = time[-steps:, None] - time  # (T, C)
        return torch.where(back < 0, -torch.inf, -self.slopes[:, None, None] * back)


def _attended(
    query: Tensor, pieces: list[Tensor], distance: Callable[[int, int], Tensor]
) -> Tensor:
    """What queries (N, heads, T, E) find in keys and values that lie in pieces."""
    scores = torch.cat([query @ piece[0].mT for piece in pieces], -1) * query.shape[-1] ** -0.5
    weights = (scores + distance(*scores.shape[-2:])).softmax(-1)
    shares = weights.split([piece.shape[-2] for piece in pieces], -1)
    seen = [share @ piece[1] for share, piece in zip(shares, pieces, strict=True)]
    return torch.stack(seen).sum(0)


def _longer(cache: Cache, step: Tensor) -> Cache:
    if not cache or cache[-1].shape[-2] >= _BLOCK:
        return (*cache, step)
    return (*cache[:-1], torch.cat([cache[-1], step], -2))
