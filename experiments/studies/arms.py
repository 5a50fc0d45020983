"""The arm families, against what brackets the agents: success after 1, 2 and 3 episodes, of
`lift` after up to 5. There, PEARL is also trained with an expert's episodes at the beginning of a
quarter of its trials: then one may show it how (python -m experiments.benchmarks.demonstrations).
With "held-out shapes" it is judged on shapes that it never met, and a hard grip is no failure. With
"observations" its z must predict these besides rewards, as it must on `push` anyhow; with "relative
factors" its encoder says how far z is from where the robot is, which is meant to hold beyond the
places that were trained, and a thousand train tasks, as on `insert` anyhow; "100 tasks" there are a
tenth of the preset's, "600 k" half of its env steps, as are "3 M" on `push`. On `insert`
PEARL is judged on 300 tasks of each split: of 30 a success of 70 % is known to within 8 %.

    metarl bench arms [--families reach insert push lift] [--agents pearl rl2 ...] [--seeds 3]

The baselines on SB3's SAC have as many env steps, gradient steps and units as PEARL; the scripted
policy is told the task, and shows what can be had.
"""

from metarl.study import grid

_AGENTS = ["scripted", "pearl", "rl2", "blind", "finetune", "scratch", "oracle"]

STUDY = [
    *grid(_AGENTS, ["reach", "push"]),
    *grid([name for name in _AGENTS if name != "pearl"], ["insert"]),
    *grid(["pearl"], ["insert"], tasks=300),
    *grid(["pearl"], ["insert"], tasks=300, label="pearl (600 k)",
          flags=("--steps", "600000", "--config.anneal", "34000", "--config.encoder-anneal",
                 "17000")),
    *grid(["pearl"], ["push"], label="pearl (3 M)",
          flags=("--steps", "3015000", "--config.anneal", "114000", "--config.encoder-anneal",
                 "45600")),
    *grid(["pearl"], ["insert"], label="pearl (observations)",
          flags=("--config.decode-states",)),
    *grid(["pearl"], ["reach", "push"], label="pearl (relative factors)",
          flags=("--config.relative-factors", "--train-tasks", "1000")),
    *grid(["pearl"], ["insert"], label="pearl (100 tasks)", flags=("--train-tasks", "100")),
    *grid(["rl2"], ["insert"], label="rl2 (1000 tasks)", flags=("--train-tasks", "1000")),
    *grid(_AGENTS, ["lift"], episodes=5),
    *grid(["pearl"], ["lift"], episodes=5, label="pearl (demonstrations)",
          flags=("--trial.demonstrations", "0.25")),
    *grid(["pearl"], ["lift"], episodes=5, label="pearl (held-out shapes)",
          flags=("--trial.demonstrations", "0.25", "--family.no-gentle", "--steps", "864000",
                 "--family.held-out", "capsule", "wedge")),
]
