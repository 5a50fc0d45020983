"""What PEARL's z must predict of a transition: its reward, and if asked the next observation."""

from functools import partial

import torch
from torch import Tensor, nn

from metarl.agent import Shapes
from metarl.agents.networks import Normalizer, mlp
from metarl.agents.replay import Transitions
from metarl.trial import Trial


class Predictors(nn.Module):
    """Networks that tell rewards, and with `states` how observations change, from z."""

    def __init__(
        self, shapes: Shapes, latent: int, hidden: int, states: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        told, units = shapes.obs + shapes.action + latent, [hidden] * 2
        made = partial(mlp, generator=generator, activation=nn.SiLU)
        self.reward = made([told + shapes.obs, *units, 1])
        self.change = made([told, *units, shapes.obs]) if states else None
        self.changes = Normalizer(shapes.obs)  # of observations within a step

    def update(self, lived: Trial) -> None:
        """Learn from a trial how far observations change."""
        self.changes.update(lived.next_obs - lived.obs)

    def errors(self, z: Tensor, batch: Transitions, raw: Transitions) -> dict[str, Tensor]:
        """Mean squared errors of what hypotheses (B, L) predict of as many transitions, which are
        normalised in `batch`, and in `raw` as they were."""
        told = [batch.obs, batch.action]
        rewards = self.reward(torch.cat([*told, batch.next_obs, z], 1)).squeeze(1)
        errors = {"loss/prediction": (rewards - batch.reward).square().mean()}
        if self.change is not None:
            changes = self.changes((raw.next_obs - raw.obs).flatten(0, 1)[: len(z)])
            expected = self.change(torch.cat([*told, z], 1))
            errors["loss/change"] = (expected - changes).square().mean()
        return errors
