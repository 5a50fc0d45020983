"""An adapted policy: an agent plus a belief, and the bundle that carries both to another machine.

A bundle is a directory of policy.safetensors (weights and normalisers), belief.safetensors,
bundle.json and MANIFEST.json; the MJCF and YAML of a family that was described lie in family/.
There is no code in it: the agent is built from metarl's registry.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from metarl import checkpoint
from metarl.agent import Agent
from metarl.errors import DamagedFile, UserError
from metarl.randomness import Role, generator

BUNDLE = "bundle.json"
LARGEST = 2**30  # bytes of an agent that a bundle may ask for
_ROWS = 10_000  # of a belief
_FAMILY = "family/"  # folder of the files that describe the family


class Policy:
    """What acts in one task: an agent with a belief that no longer changes.

    `predict` is Stable-Baselines3's, so its `evaluate_policy` and its users' loops run it.
    To go on adapting, use `agent.infer` on `belief`.
    """

    def __init__(
        self, agent: Agent, belief: Any, about: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """`about` is what bundle.json says: `agent`, `config`, `family`, `options`, `seed`,
        `shapes`, and the `replicas` that the belief has rows for. `files` describe the family, if
        it has no class."""
        self.agent = agent
        self.belief = belief
        self.about = dict(about)
        self.files = dict(files or {})
        self.replicas = int(about["replicas"])
        self._noise = generator(int(about["seed"]), role=Role.ACTION)

    def predict(
        self,
        obs: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Actions (A,) for obs (O,), or (N, A) for (N, O), float32 in [-1, 1]; and `state`.

        `state` is a belief to act on in place of the policy's own; it comes back as it was,
        because a policy alone sees no rewards. `episode_start` changes nothing: what is known of
        a task outlives its episodes. Raises UserError for observations of another size or ones
        that are not finite.
        """
        rows = self._checked(obs)
        belief = self.belief if state is None else state
        actions = []
        # One row at a time: the belief has the agent's replicas of one task, however many
        # observations are asked about.
        for row in rows:
            noise = None if deterministic else self._draw()
            action = self.agent.act(row.expand(self.replicas, -1), belief, noise)
            actions.append(action[0].clamp(-1, 1))
        answer = torch.stack(actions).cpu().numpy().astype(np.float32)
        return (answer[0] if np.ndim(obs) == 1 else answer), state

    def save(self, path: str | Path) -> Path:
        """Write the bundle directory `path`; its path. Raises UserError where it exists."""
        path = Path(path)
        if path.exists():
            raise UserError(f"{path} exists; choose another place for the adapted policy")
        checkpoint.write(
            path,
            {"policy": self.agent.policy_state(), "belief": self.agent.pack(self.belief)},
            {BUNDLE: self.about, **{f"{_FAMILY}{name}": data for name, data in self.files.items()}},
        )
        return path

    def _checked(self, obs: np.ndarray) -> Tensor:
        """Observations as rows (N, O)."""
        array = np.asarray(obs, dtype=np.float32)
        size = int(self.about["shapes"]["obs"])
        if array.ndim not in (1, 2) or array.shape[-1] != size:
            raise UserError(
                f"an observation of {self.about['family']} has {size} numbers; "
                f"got an array of shape {array.shape}, expected ({size},) or (N, {size})"
            )
        if not np.isfinite(array).all():
            raise UserError("an observation holds NaN or infinity; the policy gives no action")
        return torch.from_numpy(array).reshape(-1, size).to(self.agent.device)

    def _draw(self) -> Tensor:
        size = (self.replicas, int(self.about["shapes"]["action"]))
        return torch.from_numpy(self._noise.standard_normal(size)).float().to(self.agent.device)


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle directory."""
    return (path / BUNDLE).is_file()


def read_bundle(
    path: Path,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor], dict[str, bytes]]:
    """What bundle.json says, the policy's tensors, the packed belief, and the files that describe
    the family, verified.

    Raises DamagedFile naming the bad file.
    """
    tensors, documents = checkpoint.read(path)
    if missing := {"policy", "belief"} - set(tensors) or {BUNDLE} - set(documents):
        raise DamagedFile(f"{path} has no {missing.pop()}: this is not a bundle")
    rows = documents[BUNDLE].get("replicas") if isinstance(documents[BUNDLE], dict) else None
    if not isinstance(rows, int) or not 1 <= rows <= _ROWS:
        raise DamagedFile(f"{path / BUNDLE} says that its belief has {rows} rows; from 1 to "
                          f"{_ROWS:,} are allowed")
    files = {name.removeprefix(_FAMILY): document for name, document in documents.items()
             if name.startswith(_FAMILY)}
    return documents[BUNDLE], tensors["policy"], tensors["belief"], files


def check_sizes(make: Callable[[str], Agent], tensors: Mapping[str, Tensor]) -> None:
    """Raise DamagedFile where the agent that `make` makes on a device has other tensors than those
    stored of its policy. It is made without memory, however much of it its settings ask for."""
    with torch.device("meta"), _Nowhere():
        agent = make("meta")
        wanted, size = agent.policy_state(), sum(t.nbytes for t in agent.state().values())
    for name, tensor in wanted.items():
        if name not in tensors:
            raise DamagedFile(f"there is no {name} in the bundle's policy")
        if tensors[name].shape != tensor.shape:
            raise DamagedFile(f"{name} of the bundle's policy has shape "
                              f"{tuple(tensors[name].shape)}, its settings ask for "
                              f"{tuple(tensor.shape)}")
    if size > LARGEST:  # what training needs beside the policy, critics say, is in no bundle
        raise DamagedFile(f"the bundle's settings ask for an agent of {size / 2**20:,.0f} MiB; "
                          f"{LARGEST // 2**20:,} MiB are allowed")


class _Nowhere(TorchFunctionMode):
    """Tensors without memory stay that wherever they are sent: SB3 builds on the CPU first."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.to, Tensor.cpu, torch.empty_like) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def misfits(what: str) -> Iterator[None]:
    """Turn what torch and Python raise where tensors are not an agent's into a DamagedFile."""
    try:
        yield
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DamagedFile(f"{what} ({reason})") from None
