"""What inner steps make of a reward: a function of it that is learned with the initialisation.

Where a reward falls off evenly around a goal, a policy gradient is as long near it as far away, and
inner steps of one size overshoot. Seen through a function that grows ever less, rewards lead to a
gradient that shrinks with what is left to gain. Which function does is learned by the outer step,
as in Zheng et al., "On Learning Intrinsic Rewards for Policy Gradient Methods" (NeurIPS 2018), and
Bechtle et al., "Meta Learning via Learned Loss" (ICPR 2021). What the outer step improves, and what
is reported, are the rewards themselves.

The function is linear between knots. Advantages are linear in rewards, and so in its slopes: those
by each of its parts are computed once, and weighed anew for each set of slopes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metarl.agents.networks import Normalizer

# Deviations of the reward, where the function may bend: most of them where little is left to gain.
KNOTS = (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
_NOTHING = 1e-3  # in deviations of the reward: advantages as small are rounding errors


class Units(nn.Module):
    """In which units learned functions see rewards and advantages: by those of training so far."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.rewards = Normalizer(1)
        self.register_buffer("scale", torch.zeros(()))  # of advantages; 0 until they had any

    @property
    def size(self) -> Tensor:
        """What advantages are divided by: their scale, or 1 until it is known."""
        return torch.where(self.scale > 0, self.scale, 1.0)

    def measure(self, parts: Sequence[Tensor]) -> None:
        """Take over the size of the advantages (M, S, J) in some rounds, unless there was a scale
        before, or they are none: without any reward there is nothing to measure."""
        found = torch.cat([each[..., 0].flatten() for each in parts]).square().mean().sqrt()
        if self.scale == 0 and found.isfinite() and found > _NOTHING:
            self.scale.copy_(found)

    def seen(self, reward: Tensor) -> Tensor:
        """The rewards (T, N) in deviations."""
        return self.rewards(reward[..., None])[..., 0]

    def parts(self, reward: Tensor) -> list[Tensor]:
        """The rewards (T, N) in deviations, and by how much they are above each knot."""
        seen = self.seen(reward)
        return [seen, *((seen - knot).relu() for knot in KNOTS)]


def straight() -> Tensor:
    """The slopes (J,) of the function that changes nothing: 1, and no bend at any knot."""
    return torch.eye(1, len(KNOTS) + 1)[0]


def steepness(slopes: Tensor) -> dict[str, float]:
    """How steep the function is where rewards are low, and where they are high: numbers to log."""
    return {"policy/slope_low": float(slopes[0]), "policy/slope_high": float(slopes.sum())}
