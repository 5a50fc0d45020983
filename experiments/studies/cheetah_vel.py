"""cheetah-vel: return after 1, 2 and 3 episodes on 30 held-out target speeds.

    metarl bench cheetah_vel [--agents pearl ...] [--seeds 3] [--device cuda]
"""

from metarl.study import grid

STUDY = grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-vel"])
