"""cheetah-dir: return after 1, 2 and 3 episodes on its two tasks, forward and backward.

    metarl bench cheetah_dir [--agents pearl ...] [--seeds 3] [--device cuda]

It trains and judges on the same two tasks: adaptation, not generalisation. `pearl` has an entropy
bonus that shrinks to a tenth as training goes on, as step sizes do: while little is earned yet it
has the policy try far more than a learned one. In `pearl (temperature 0.5)` it stays what it is, in
`pearl (learned temperature)` it is learned, as soft actor-critic's authors have it; these aim at
twice the entropy of the policy: `pearl (entropy 1)`. `pearl (2 episodes)` is `pearl (learned
temperature)` with twice as many trials of half the length, as PEARL's authors have: half of what it
learns from are then first episodes, which go the wrong way half of the time.
"""

from metarl.study import grid

_LEARNED = ("--config.temperature-anneal", "0", "--config.learned-temperature",
            "--config.temperature", "0.1")
# How each of them differs from PEARL's preset.
_VARIANTS: dict[str, tuple[str, ...]] = {
    "pearl (temperature 0.5)": ("--config.temperature-anneal", "0"),
    "pearl (learned temperature)": _LEARNED,
    "pearl (entropy 1)": (*_LEARNED, "--config.entropy", "1"),
    "pearl (2 episodes)": (*_LEARNED, "--config.tasks", "20", "--config.episodes", "2",
                           "--config.recent", "2"),
}

STUDY = grid(["pearl", "blind", "finetune", "scratch", "oracle"], ["cheetah-dir"]) + [
    job
    for label, flags in _VARIANTS.items()
    for job in grid(["pearl"], ["cheetah-dir"], label=label, flags=flags)
]
