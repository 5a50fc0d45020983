"""Settings that an agent needs on a family beyond its own defaults, found by experiment.

`metarl train` starts from them; options on the command line come on top.
"""

from typing import Any

# (agent, family) -> {group: {field: value}}
PRESETS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}


def preset(agent: str, family: str) -> dict[str, dict[str, Any]]:
    """The settings of `options` (of training), `config` (of the agent) and `family` that replace
    defaults for this pair; empty groups where there are none."""
    return {"options": {}, "config": {}, "family": {}} | PRESETS.get((agent, family), {})
