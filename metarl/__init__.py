"""Meta-reinforcement learning for robots: meta-train over variations, adapt in a few rollouts."""

__version__ = "0.1.0"
