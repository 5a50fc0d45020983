"""cheetah-dir: return after 1, 2 and 3 episodes on its two tasks, forward and backward.

    metarl bench cheetah_dir [--agents pearl ...] [--seeds 3] [--device cuda]

It trains and judges on the same two tasks: adaptation, not generalisation. `pearl (entropy 1)` aims
at half the entropy of the policy that `pearl` does, as soft actor-critic's authors do; `pearl (2
episodes)` has twice as many trials of half the length, as its authors have: half of what it learns
from are then first episodes, which go the wrong way half of the time. In `pearl (temperature 0.5)`
the entropy bonus stays what it is: while little is earned yet it has the policy try far more. In
`pearl (temperature 0.5, shrinking)` it shrinks to a tenth as training goes on, as step sizes do.
"""

from metarl.study import grid

_STEADY = ("--config.temperature", "0.5", "--config.no-learned-temperature")

STUDY = [
    *grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-dir"]),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (entropy 1)", flags=("--config.entropy", "1")),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (2 episodes)",
          flags=("--config.tasks", "20", "--config.episodes", "2", "--config.recent", "2")),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (temperature 0.5)",
          flags=_STEADY),
    *grid(["pearl"], ["cheetah-dir"], label="pearl (temperature 0.5, shrinking)",
          flags=(*_STEADY, "--config.temperature-anneal", "468000")),
]
