"""Meta-reinforcement-learning agents: one file per algorithm."""

from typing import Any

from metarl.agents.maml import Maml
from metarl.agents.pearl import Pearl

AGENTS: dict[str, Any] = {
    "maml": Maml,
    "pearl": Pearl,
}
