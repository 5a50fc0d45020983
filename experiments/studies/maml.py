"""MAML and its relatives: return, and success, after 0, 1, 2 and 3 inner steps on held-out tasks.

    metarl bench maml [--families cheetah-dir reach ...] [--agents maml promp ...] [--seeds 3]

Each gradient step is on rollouts of its own. On cheetahs episodes have 100 steps, as in the
literature: the returns are no others' rivals. `maml (H 100, 10 tasks)` takes four outer steps for
each of the 40 tasks of the literature, of which cheetah-dir has but two that differ; `maml (20
tasks)` takes two.
"""

from metarl.study import Job, grid

# How each of them differs from MAML with TRPO.
_RELATIVES: dict[str, tuple[str, ...]] = {
    "maml": (),
    "promp": ("--config.outer", "promp"),
    "maml-ppo": ("--config.outer", "ppo"),
    "fomaml": ("--config.first-order",),
    "anil": ("--config.head-only",),
    "meta-sgd": ("--config.learned-rates",),
    "reptile": ("--config.outer", "reptile"),
}
_ARMS, _CHEETAHS = ["reach", "push", "insert"], ["cheetah-dir", "cheetah-vel"]


def _jobs(seed: int) -> list[Job]:
    return [
        job
        for families, suffix in ((_CHEETAHS, " (H 100)"), (_ARMS, ""))
        for name, flags in _RELATIVES.items()
        for job in grid(["maml"], families, [seed], flags=flags, label=name + suffix)
    ]


# A quarter of the env steps of an outer step.
_FEWER = ("--config.tasks", "10", "--steps", "24000000", "--evaluate-every", "2400000")
STUDY = [job for seed in range(10) for job in _jobs(seed)] + grid(
    ["maml"], ["cheetah-dir"], flags=_FEWER, label="maml (H 100, 10 tasks)"
) + grid(
    ["maml"], _ARMS, flags=("--config.tasks", "20", "--steps", "8000000", "--evaluate-every",
                            "800000"), label="maml (20 tasks)"
)
