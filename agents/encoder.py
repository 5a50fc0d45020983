"""PEARL's encoder: each transition becomes a Gaussian factor over z, and their product is told by
its natural parameters; and what transitions it may be asked about."""

import torch
from torch import Tensor, nn

from metarl.agent import Shapes
from metarl.agents.networks import mlp
from metarl.trial import Steps, Trial


class Encoder(nn.Module):
    """A network from transitions to the product of their Gaussian factors.

    A factor of rank k > 0 says that k linear forms of z have given values: transitions that each
    tell one number, a distance say, then locate z as least squares would. Rank 0 makes factors
    diagonal, as in the paper.

    With `relative`, what a factor says of z it says from a point that is linear in the transition:
    "so far from where the robot is" then also holds at places where no trained task took it.
    """

    def __init__(
        self, inputs: int, hidden: list[int], latent: int, rank: int, generator: torch.Generator,
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.latent, self.rank = latent, rank
        outputs = rank * (latent + 1) or 2 * latent
        # Smooth units: the belief of ReLU's located a goal less exactly.
        self.network = mlp([inputs, *hidden, outputs], generator, nn.SiLU)
        self.origin = mlp([inputs, latent], generator, nn.SiLU) if relative else None

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Precision (B, L, L), and precision times mean (B, L), of the product of the factors of C
        transitions (B, C, F)."""
        out = self.network(context)
        origin = self.origin(context) if self.origin is not None else None  # (B, C, L)
        if self.rank:
            forms = out.unflatten(-1, (self.rank, self.latent + 1)).flatten(1, 2)  # (B, C k, L+1)
            matrix, values = forms[..., :-1], forms[..., -1:]
            if origin is not None:
                origins = origin.repeat_interleave(self.rank, 1)
                values = values + (matrix * origins).sum(-1, keepdim=True)
            return matrix.mT @ matrix, (matrix.mT @ values).squeeze(-1)
        mean, raw = out.chunk(2, -1)
        if origin is not None:
            mean = mean + origin
        precision = 1 / nn.functional.softplus(raw).clamp(min=1e-4)
        return precision.sum(1).diag_embed(), (precision * mean).sum(1)


class Familiar(nn.Module):
    """The range of every number that transitions brought of late in training. What an encoder says
    of transitions beyond it is wrong without being uncertain, and the more of them, the surer."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        numbers = 2 * shapes.obs + 1
        self.register_buffer("low", torch.full((numbers,), torch.inf))
        self.register_buffer("high", torch.full((numbers,), -torch.inf))
        self.low: Tensor
        self.high: Tensor

    def update(self, lived: Trial) -> None:
        """Widen to the transitions of an iteration; where they lie within, go a tenth of the way to
        them."""
        seen = _transitions(lived).to(self.low.device)
        low, high = seen.amin((0, 1)), seen.amax((0, 1))
        if self.low.isfinite().all():
            low = torch.minimum(low, self.low.lerp(low, 0.1))
            high = torch.maximum(high, self.high.lerp(high, 0.1))
        self.low, self.high = low, high

    def forward(self, step: Steps) -> Tensor:
        """1 where the transitions of a step lie within the range, else 0, (N,); 1 before any
        update."""
        seen = _transitions(step)
        within = ((seen >= self.low) & (seen <= self.high)).all(1)
        return (within | ~self.low.isfinite().all()).to(seen)


def _transitions(lived: Steps | Trial) -> Tensor:
    """Observation, reward and next observation side by side, (..., F), as they are. Every action
    has a known range, to whose ends an expert goes more often than a policy."""
    return torch.cat([lived.obs, lived.reward[..., None], lived.next_obs], -1)
