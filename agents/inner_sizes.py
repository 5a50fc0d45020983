"""How long inner steps are: a function of what their round earned, learned with the initialisation.

A policy gradient of advantages that are brought to deviation 1 says which way to go, and hardly how
far; what the round earned says that, where rewards tell how much is left to gain. After Baik et
al., "Meta-Learning with Adaptive Hyperparameters" (ALFA, NeurIPS 2020), who let a network make step
sizes of the means of weights and gradients. Here it is a table: a row for each inner step that is
trained, the last one for all that follow, and the logarithm of a factor for each knot.
"""

import torch
from torch import Tensor

# Deviations of the reward. Means over rounds lie close together.
KNOTS = tuple(i / 4 for i in range(-8, 9))
_UNIT = 10.0  # of a logarithm: else Adam would take as long for a factor of e as for a whole policy


def even(steps: int) -> Tensor:
    """The table (K, L) that leaves all of so many steps as long as they are."""
    return torch.zeros(steps, len(KNOTS))


def factors(table: Tensor, earned: Tensor, taken: int) -> Tensor:
    """What the steps of M tasks are longer by, (M,), after so many others, where rounds earned mean
    rewards (M, 1) [deviations]; 1 where that is unknown, NaN."""
    knots = torch.tensor(KNOTS, device=earned.device)
    apart = (earned.clamp(KNOTS[0], KNOTS[-1]) - knots).abs() / (KNOTS[1] - KNOTS[0])
    shares = (1 - apart).relu().nan_to_num()  # (M, L): linear between the two knots beside it
    return (_UNIT * (shares @ table[min(taken, len(table) - 1)])).exp()


def lengths(table: Tensor, earned: list[Tensor]) -> dict[str, float]:
    """What the first and the last of some inner steps were longer by, where their rounds earned
    this, (M, 1) each [deviations], means over tasks: numbers to log."""
    used = [float(factors(table, each, i).mean()) for i, each in enumerate(earned)]
    return {"policy/step_first": used[0], "policy/step_last": used[-1]}
