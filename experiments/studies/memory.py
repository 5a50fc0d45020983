"""The agents that remember, on the cheetahs (H 200): return of a trial's first two episodes.

    metarl bench memory [--families cheetah-dir] [--agents rl2 recurrent-sac ...] [--seeds 3]

`rl2 (90 M)` has more than twice the env steps of its preset, nearly as many as published runs have;
`rl2 (96 M, noise kept)` has a bonus that holds its noise at 0.3, which sinks to 0.2 otherwise.
"""

from metarl.study import grid

# label -> agent, and what it is told on the command line
_AGENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rl2": ("rl2", ()),
    "rl2 (transformer)": ("rl2", ("--config.memory", "transformer")),
    "varibad": ("varibad", ()),
    "varibad (hypernetwork)": ("varibad", ("--config.hypernetwork", "32")),
    "recurrent-sac": ("recurrent-sac", ()),
}

STUDY = [
    job
    for seed in range(10)
    for label, (agent, flags) in _AGENTS.items()
    for job in grid([agent], ["cheetah-dir", "cheetah-vel"], [seed], flags=flags, label=label,
                    episodes=2)
] + grid(["rl2"], ["cheetah-dir"], episodes=2, label="rl2 (90 M)",
         flags=("--steps", "90000000", "--config.anneal", "3515")
) + grid(["rl2"], ["cheetah-dir"], episodes=2, label="rl2 (96 M, noise kept)",
         flags=("--steps", "96000000", "--config.anneal", "3750", "--config.entropy", "0.05"))
