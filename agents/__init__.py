"""Meta-reinforcement-learning agents: one file per algorithm."""

from typing import Any

from metarl.agents.pearl import Pearl

AGENTS: dict[str, Any] = {
    "pearl": Pearl,
}
