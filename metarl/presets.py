"""Settings that an agent needs on a family beyond its own defaults, found by experiment.

`metarl train` starts from them; options on the command line come on top.
"""

from typing import Any

# Where dynamics vary, a transition's end tells of the task what its reward does not.
_SEES_NEXT = {"config": {"context_next_obs": True}}

_ARM = {
    "tasks": 50, "episodes": 3, "updates": 850, "encoder_every": 2, "hidden": 128, "latent": 6,
    "encoder_hidden": 128, "context": 64, "discount": 0.95, "entropy": 0.5,
    "context_next_obs": True,
}

# (agent, family) -> {group: {field: value}}
PRESETS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("pearl", "ant-terrain"): _SEES_NEXT,
    ("pearl", "hopper-params"): _SEES_NEXT,
    ("pearl", "walker-params"): _SEES_NEXT,
    ("pearl", "walker-terrain"): _SEES_NEXT,
    ("pearl", "insert"): {
        "options": {"steps": 300_000, "evaluate_every": 60_000},
        "config": _ARM | {"anneal": 17_000, "encoder_anneal": 8_500},
    },
    ("pearl", "push"): {
        "options": {"steps": 1_125_000, "evaluate_every": 112_500},
        "config": _ARM | {"anneal": 42_500, "encoder_anneal": 17_000},
    },
    ("pearl", "cheetah-vel"): {
        "options": {"steps": 440_000, "evaluate_every": 80_000},
        # Many small updates. A shorter sight than 0.99 learns to crawl on its back; numbers in z
        # that the task does not need are noise to the policy.
        "config": {"latent": 2, "updates": 1300, "anneal": 71_500, "encoder_anneal": 28_600,
                   "entropy": 0.5},
    },
    ("pearl", "reach"): {
        "options": {"steps": 345_000, "evaluate_every": 37_500},
        "config": _ARM | {"discount": 0.9, "anneal": 39_100, "encoder_anneal": 16_300},
    },
    ("maml", "cheetah-vel"): {
        "options": {"steps": 8_000_000, "evaluate_every": 800_000, "evaluation_episodes": 2},
        "config": {"std": 0.5},
        "family": {"horizon": 100},
    },
}

_ITERATIONS = 40  # of a family that nobody has tried
# A baseline is to be matched: as many steps and updates as PEARL has on the family, as many units.
_SHARED = ("tasks", "episodes", "updates", "anneal", "hidden", "discount", "entropy")
_ALONE = ("hidden", "discount", "entropy")  # those that matter without meta-training


def preset(agent: str, family: str, described: int = 0) -> dict[str, dict[str, Any]]:
    """The settings of `options` (of training), `config` (of the agent) and `family` that replace
    defaults for this pair; empty groups where there are none. `described` is the horizon of a
    family that files describe."""
    pearl = PRESETS.get(("pearl", family), _described(described) if described else {})
    found = pearl if agent == "pearl" else PRESETS.get((agent, family)) or _matched(agent, pearl)
    return {"options": {}, "config": {}, "family": {}} | found


def _described(horizon: int) -> dict[str, dict[str, Any]]:
    """PEARL's settings for a family out of an MJCF and a YAML: those of the arms, for about as many
    updates as these need."""
    updates = _ITERATIONS * _ARM["updates"]
    iteration = _ARM["tasks"] * _ARM["episodes"] * horizon  # env steps
    return {
        "options": {"steps": _ITERATIONS * iteration, "evaluate_every": 8 * iteration},
        "config": _ARM | {"anneal": updates, "encoder_anneal": 2 * updates // 5},
    }


def _matched(agent: str, pearl: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A baseline's settings from those of PEARL; none for other agents."""
    options, config = pearl.get("options", {}), pearl.get("config", {})
    if agent in ("blind", "oracle"):
        return {"options": options, "config": _only(_SHARED, config)}
    if agent == "finetune":
        # Learning in every test task takes a minute or two: it is judged once, at the end.
        steps = {"evaluate_every": options["steps"]} if options else {}
        return {"options": options | steps, "config": _only(_SHARED, config)}
    if agent == "scratch":
        # It learns nothing before it is judged: one iteration makes the run.
        return {"options": {"steps": 1}, "config": _only(_ALONE, config)}
    return {}


def _only(names: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
