"""cheetah-dir: return after 1, 2 and 3 episodes on its two tasks, forward and backward.

    metarl bench cheetah_dir [--agents pearl ...] [--seeds 3] [--device cuda]

It trains and judges on the same two tasks: adaptation, not generalisation. `pearl (entropy 1)` aims
at half the entropy of the policy that `pearl` does, as soft actor-critic's authors do; `pearl (2600
updates)` takes twice its gradient steps for each env step; `pearl (2600 updates, 4 episodes)` has
half as many trials of twice the length besides, so that a quarter of what it learns from is a first
episode, which goes the wrong way half of the time, and not a half.
"""

from metarl.study import grid

_TWICE = ("--config.updates", "2600", "--config.anneal", "468000",
          "--config.encoder-anneal", "93600")
_LONGER = ("--config.tasks", "10", "--config.episodes", "4", "--config.recent", "1")
STUDY = [
    *grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-dir"]),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (entropy 1)", flags=("--config.entropy", "1")),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (2600 updates)", flags=_TWICE),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (2600 updates, 4 episodes)",
          flags=_TWICE + _LONGER),
]
