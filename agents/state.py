"""What an agent is, as named tensors: for checkpoints and bundles."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Stateful:
    """An agent that keeps all that it is in attributes: modules, optimisers, plain tensors, and
    what has a `state` of its own, as a replay."""

    acts: tuple[str, ...]  # the attributes that a policy consists of
    learns: tuple[str, ...]  # those that training needs beside them

    def policy_state(self) -> dict[str, Tensor]:
        return _stored(self, self.acts)

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        _restore(self, self.acts, state)

    def state(self) -> dict[str, Tensor]:
        return _stored(self, self.acts + self.learns)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        _restore(self, self.acts + self.learns, state)


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each name behind `prefix/`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name[len(start):]: t for name, t in tensors.items() if name.startswith(start)}


def _stored(owner: object, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of what an object holds under these names."""
    found: dict[str, Tensor] = {}
    for name in names:
        part = getattr(owner, name)
        if isinstance(part, Tensor):
            found[name] = part.detach()
        else:
            found |= named(name, _tensors(part))
    return found


def _restore(owner: object, names: tuple[str, ...], tensors: Mapping[str, Tensor]) -> None:
    """Take over what `_stored` returned."""
    for name in names:
        part = getattr(owner, name)
        if isinstance(part, Tensor):
            part.data.copy_(tensors[name])
        elif isinstance(part, nn.Module):
            part.load_state_dict(under(name, tensors))
        elif isinstance(part, torch.optim.Optimizer):
            load_optimizer_state(part, under(name, tensors))
        else:
            part.load_state(under(name, tensors))


def _tensors(part: Any) -> Mapping[str, Tensor]:
    if isinstance(part, nn.Module):
        return part.state_dict()
    return optimizer_state(part) if isinstance(part, torch.optim.Optimizer) else part.state()


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's tensors by parameter number and name."""
    return {
        f"{i}/{name}": value
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what `optimizer_state` returned."""
    state = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition("/")
        entries.setdefault(int(number), {})[key] = value
    state["state"] = entries
    optimizer.load_state_dict(state)
