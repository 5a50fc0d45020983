"""`reach` on each arm with an arm's flaws in training, for `experiments.benchmarks.arm_reach`.

    metarl bench sim2real --agents "pearl (fr3, flaws)" --seeds 1

Delays in training are those that a slowed arm has, or more: at a quarter of the speed 40 ms are 10
of the policy's own.
"""

from metarl.study import grid

_NOISE = ("--sim2real.noise", "0.0005", "--sim2real.speed-noise", "0.01", "--sim2real.history", "1")
_LATE = (
    *_NOISE,
    "--sim2real.action-latency", "0", "20", "--sim2real.observation-latency", "0", "10",
)
_FLAWS = {
    "fr3": _LATE,
    "ur5e": _LATE,
    "so101": (
        *_NOISE, "--sim2real.action-latency", "0", "40",
        "--sim2real.observation-latency", "0", "20", "--sim2real.backlash", "0", "0.005",
    ),
}

STUDY = [
    job
    for seed in range(10)
    for arm, flags in _FLAWS.items()
    for job in grid(["pearl"], ["reach"], [seed], flags=("--family.arm", arm, *flags),
                    label=f"pearl ({arm}, flaws)")
]
