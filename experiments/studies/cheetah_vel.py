"""cheetah-vel: return after 1, 2 and 3 episodes on 30 held-out target speeds.

    metarl bench cheetah_vel [--agents pearl ...] [--seeds 3] [--device cuda]

MAML's is the task of its paper, with episodes of 100 steps: its returns are no others' rivals.
"""

from metarl.study import grid

STUDY = [
    *grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-vel"]),
    *grid(["maml"], ["cheetah-vel"], label="maml (H 100)", episodes=2),
]
