"""Meta-reinforcement learning for robots: meta-train over variations, adapt in a few rollouts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metarl.adaptation import adapt as adapt
    from metarl.api import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import metarl` and `metarl --help` must not wait for torch.
    if name == "load":
        from metarl.api import load

        return load
    if name == "adapt":
        from metarl.adaptation import adapt

        return adapt
    raise AttributeError(f"module 'metarl' has no attribute {name!r}")
