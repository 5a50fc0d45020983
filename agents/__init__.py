"""Meta-reinforcement-learning agents: one file per algorithm."""

from typing import Any

from metarl.agents.maml import Maml
from metarl.agents.pearl import Pearl
from metarl.agents.rl2 import Rl2
from metarl.agents.varibad import Varibad

AGENTS: dict[str, Any] = {
    "maml": Maml,
    "pearl": Pearl,
    "rl2": Rl2,
    "varibad": Varibad,
}
