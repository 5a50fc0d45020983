"""The arm families, against what brackets the agents: success after 1, 2 and 3 episodes.

    metarl bench arms [--families reach insert push] [--agents pearl finetune ...] [--seeds 3]

The baselines on SB3's SAC have as many env steps, gradient steps and units as PEARL; the scripted
policy is told the task, and shows what can be had.
"""

from metarl.study import grid

STUDY = grid(
    ["scripted", "pearl", "blind", "finetune", "scratch", "oracle"],
    ["reach", "insert", "push"],
    seeds=range(10),
)
