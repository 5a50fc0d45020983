"""What PEARL believes of a task: a Gaussian over z, and the hypothesis that it tries."""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents import gaussian
from metarl.randomness import Draws, Role


class Belief(NamedTuple):
    """A product of Gaussian factors over z by its natural parameters, and the z that is tried."""

    precision: Tensor  # (N, L, L)
    weighted_mean: Tensor  # (N, L) precision @ mean
    z: Tensor  # (N, L)
    episode: Tensor  # (N,) episodes finished
    words: Tensor  # (M, 3) keys of the draws of z

    @classmethod
    def prior(cls, rows: int, latent: int, draws: Draws, device: torch.device) -> "Belief":
        """N(0, I) in each row, and a hypothesis drawn from it."""
        precision = torch.eye(latent, device=device).repeat(rows, 1, 1)
        zeros = torch.zeros(rows, latent, device=device)
        episode = torch.zeros(rows, dtype=torch.long, device=device)
        return cls(precision, zeros, zeros, episode, draws.words).resampled(episode == 0)

    def times(self, precision: Tensor, weighted_mean: Tensor) -> "Belief":
        """The product with one more factor (N, L, L), (N, L); the hypothesis stays."""
        return self._replace(precision=self.precision + precision,
                             weighted_mean=self.weighted_mean + weighted_mean)

    def after(self, last: Tensor) -> "Belief":
        """After a step that ended an episode in the rows (N,) of `last`: these try a new z."""
        if not last.any():
            return self
        return self._replace(episode=self.episode + last.long()).resampled(last)

    def resampled(self, mask: Tensor) -> "Belief":
        """The belief with a new hypothesis in the masked rows (N,)."""
        draws = Draws(self.words, len(mask) // len(self.words))
        noise = torch.zeros_like(self.z)
        for episode in self.episode[mask].unique().tolist():
            fresh = draws.normal(Role.BELIEF, episode, self.z.shape[1]).to(self.z.device)
            noise = torch.where((self.episode == episode)[:, None], fresh, noise)
        z = gaussian.sample(self.precision, self.weighted_mean, noise)
        return self._replace(z=torch.where(mask[:, None], z, self.z))

    def mean(self) -> Tensor:
        """Its mean, (N, L)."""
        return gaussian.solved(self.precision, self.weighted_mean)[0]

    def settled(self) -> Tensor:
        """What is acted on without noise, (N, L): in a first episode the hypothesis, to learn
        about the task; then the belief's mean, which sharpens with every step."""
        first = (self.episode == 0)[:, None]
        return self.z if first.all() else torch.where(first, self.z, self.mean())

    def to(self, device: torch.device) -> "Belief":
        """The same on a device; the words of its draws stay on the CPU."""
        return Belief(*(tensor.to(device) for tensor in self[:-1]), self.words)
