"""Networks whose weights are generated from what is known of the task."""

import torch
from torch import Tensor, nn

from metarl.agents.networks import Tanh, mlp, tanh


class HyperNetwork(nn.Module):
    """A network for part of its input, with weights that the rest of it, the context, generates.

    The weights are linear in an embedding of the context. At the start its factors are 0, so that
    whatever the context says, the weights are those that the base network was initialised with:
    Bias-HyperInit of Beck et al., "Hypernetworks in Meta-Reinforcement Learning" (2022), without
    which such policies hardly learn.
    """

    def __init__(
        self, base: nn.Sequential, context: int, embedding: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base, self.context = base, context
        self.embed = mlp([context, embedding], generator, Tanh)
        self.heads = nn.ParameterList(
            torch.zeros(layer.in_features + 1, embedding * layer.out_features)
            for layer in base if isinstance(layer, nn.Linear)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., P) at inputs beside contexts (..., I + C)."""
        hidden, context = x.split([x.shape[-1] - self.context, self.context], -1)
        embedding = tanh(self.embed(context))[..., None, :]  # (..., 1, E)
        heads = iter(self.heads)
        for layer in self.base:
            if not isinstance(layer, nn.Linear):
                hidden = layer(hidden)
                continue
            # (W + sum_e c_e W_e) h = W h + sum_e c_e (W_e h): no weights are ever formed.
            extended = nn.functional.pad(hidden, (0, 1), value=1.0)  # for the biases
            each = (extended @ next(heads)).unflatten(-1, (-1, layer.out_features))  # (..., E, P)
            hidden = layer(hidden) + (embedding @ each).squeeze(-2)
        return hidden
