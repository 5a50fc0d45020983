"""Legged robots: an ant that goes forward or backward, a walker with a hidden body; return after 1
and 2 episodes.

    metarl bench legs [--families ant-dir] [--agents pearl rl2 ...] [--seeds 3]

`blind` and `finetune` have as many env steps, gradient steps and units as PEARL.
"""

from metarl.study import grid

STUDY = grid(
    ["pearl", "rl2", "blind", "finetune"], ["ant-dir", "walker-params"], seeds=range(10), episodes=2
)
