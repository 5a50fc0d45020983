"""A latent task that is inferred from a trial's transitions, and decoded to predict them."""

import torch
from torch import Tensor, nn

from metarl.agents.networks import Tanh, mlp
from metarl.agents.recurrent import GruMemory

_LOG_VARIANCE = (-10.0, 4.0)  # of a posterior; beyond, ratios of variances overflow


class RecurrentEncoder(nn.Module):
    """A recurrent memory of transitions, and the Gaussian over z that each of its states tells."""

    def __init__(
        self, inputs: int, embedding: int, memory: int, latent: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.memory = GruMemory(inputs, embedding, memory, generator)
        self.posterior = mlp([memory, 2 * latent], generator, Tanh)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (..., L) at states (..., S)."""
        mean, log_variance = self.posterior(state).chunk(2, -1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)


class Decoder(nn.Module):
    """A network that predicts numbers of transitions from hypotheses about their task."""

    def __init__(
        self, latent: int, inputs: int, hidden: int, outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.z = mlp([latent, hidden], generator, nn.ReLU)
        self.transition = mlp([inputs, hidden], generator, nn.ReLU)
        self.rest = mlp([hidden, hidden // 2, outputs], generator, nn.ReLU)

    def forward(self, z: Tensor, transition: Tensor) -> Tensor:
        """Numbers (P, Q, B, outputs) of Q transitions (Q, B, I) under P hypotheses (P, B, L)."""
        # The first layer sees both; its two parts are computed once for each, not for each pair.
        return self.rest((self.z(z)[:, None] + self.transition(transition)).relu())


def kl_divergence(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """KL(N(mean, variance) || N(prior mean, prior variance)), (...), from inputs (..., L)."""
    shrinkage = log_variance - prior_log_variance
    distance = (mean - prior_mean).square() * (-prior_log_variance).exp()
    return 0.5 * (shrinkage.exp() + distance - 1 - shrinkage).sum(-1)


def consecutive_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL (T, ...) of each of T posteriors (T, ..., L) to the one before, the first to N(0, I)."""
    first = torch.zeros_like(mean[:1])
    return kl_divergence(mean, log_variance, torch.cat([first, mean[:-1]]),
                         torch.cat([first, log_variance[:-1]]))


def picked(x: Tensor, index: Tensor) -> Tensor:
    """Entries (P, B, F) of x (T, B, F) at times (P, B)."""
    return x.gather(0, index.to(x.device)[..., None].expand(-1, -1, x.shape[-1]))
