"""The agents that remember, on the cheetahs (H 200): return of a trial's first two episodes.

    metarl bench memory [--families cheetah-dir] [--agents rl2 recurrent-sac ...] [--seeds 3]

On cheetah-dir RL2 has nearly as many env steps as published runs have, and a bonus that holds its
noise at 0.3; `rl2 (40 M)` and `rl2 (90 M)` have a smaller one, with which it sinks to 0.2.
VariBAD has that bonus and as many env steps too; `varibad (20 M)` is the preset that it had before,
whose encoder learned more from each iteration, and from all of its trials.
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
] + [
    job
    for label, steps, anneal in (("rl2 (40 M)", 40_000_000, 1560), ("rl2 (90 M)", 90_000_000, 3515))
    for job in grid(["rl2"], ["cheetah-dir"], episodes=2, label=label,
                    flags=("--steps", str(steps), "--config.anneal", str(anneal),
                           "--config.entropy", "0.01"))
] + grid(["varibad"], ["cheetah-dir"], episodes=2, label="varibad (20 M)",
         flags=("--steps", "20000000", "--config.anneal", "780", "--config.entropy", "0.01",
                "--config.updates", "16", "--config.kept", "0", "--config.minibatches", "16"))
