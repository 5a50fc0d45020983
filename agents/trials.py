"""A replay of whole trials: one flat tensor, and a batch is one gather."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Trials:
    """A ring of trials of T steps, each step packed into F numbers; the newest replace the oldest.

    It holds as many as fit into `size` MiB, and takes memory only as they come.
    """

    def __init__(self, length: int, width: int, size: int, device: torch.device) -> None:
        self.capacity = max(1, size * 2**20 // (4 * length * width))
        self._data = torch.empty(0, length, width, device=device)  # (trials, T, F)
        self._added = 0  # ever

    def __len__(self) -> int:
        """How many there are."""
        return min(self._added, self.capacity)

    def add(self, packed: Tensor) -> None:
        """Append trials (T, N, F)."""
        rows = packed.transpose(0, 1)[-self.capacity :].to(self._data.device)
        wanted = min(self._added + len(rows), self.capacity)
        if wanted > len(self._data):
            # Doubling keeps the copies' total cost linear; the ring never wraps before.
            more = min(max(wanted, 2 * len(self._data)), self.capacity) - len(self._data)
            self._data = torch.cat([self._data, self._data.new_empty(more, *rows.shape[1:])])
        places = torch.arange(self._added, self._added + len(rows)) % self.capacity
        self._data[places.to(self._data.device)] = rows
        self._added += len(rows)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """So many trials (T, count, F), drawn uniformly; any may come twice."""
        chosen = torch.randint(len(self), (count,), generator=rng, device=rng.device)
        return self._data[chosen.to(self._data.device)].transpose(0, 1)

    def state(self) -> dict[str, Tensor]:
        """The ring as far as it is filled."""
        return {"data": self._data[: len(self)].clone(), "added": torch.tensor(self._added)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self._data = state["data"].to(self._data.device).clone()
        self._added = int(state["added"])
