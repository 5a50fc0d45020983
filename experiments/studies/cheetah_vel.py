"""cheetah-vel: return after 1, 2 and 3 episodes on 30 held-out target speeds.

    metarl bench cheetah_vel [--agents pearl ...] [--seeds 3] [--device cuda]

`pearl (1.2 M)` is trained for nearly three times as many env steps.
"""

from metarl.study import grid

_LONG = ("--steps", "1200000", "--config.anneal", "195000", "--config.encoder-anneal", "78000")

STUDY = [
    *grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-vel"]),
    *grid(["pearl"], ["cheetah-vel"], label="pearl (1.2 M)", flags=_LONG),
]
