"""Meta-reinforcement-learning agents: one file per algorithm."""

from typing import Any

from metarl.agents.blind import Blind
from metarl.agents.finetune import Finetune
from metarl.agents.maml import Maml
from metarl.agents.oracle import Oracle
from metarl.agents.pearl import Pearl
from metarl.agents.recurrent_sac import RecurrentSac
from metarl.agents.rl2 import Rl2
from metarl.agents.scratch import Scratch
from metarl.agents.varibad import Varibad

AGENTS: dict[str, Any] = {
    "maml": Maml,
    "pearl": Pearl,
    "rl2": Rl2,
    "recurrent-sac": RecurrentSac,
    "varibad": Varibad,
    "blind": Blind,
    "oracle": Oracle,
    "finetune": Finetune,
    "scratch": Scratch,
}
