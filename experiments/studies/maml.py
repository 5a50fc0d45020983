"""MAML and its relatives: return, and success, after 0, 1, 2 and 3 inner steps on held-out tasks.

    metarl bench maml [--families cheetah-dir reach ...] [--agents maml promp ...] [--seeds 3]

Each gradient step is on rollouts of its own. On cheetahs episodes have 100 steps, as in the
literature: the returns are no others' rivals. On cheetah-dir, which has but two tasks that differ,
an iteration has 10 in place of the literature's 40, and what else the preset says; `maml (H 100,
10 tasks)` has but these, and ends after 24 M env steps. On arms `maml` is taught contexts, on
`push` and `insert` with rollouts' own: inner steps go to what explains rewards. On `reach` it is
CAVIA with PPO, and what each of three inner steps leads to counts; in `last round` only what the
last of five leads to, in `last of three` that of three; `alone` is the former without a teacher.
`last round` is what `insert` is by policy gradients. Under `plain`, MAML and its relatives have
settings of their own. `finetune (60 episodes)` explores for as many as three of MAML's rounds.
"""

from metarl.study import Job, grid

Options = dict[str, str]  # of the command line; "" for a flag

# How each of them differs from MAML with TRPO.
_RELATIVES: dict[str, Options] = {
    "maml": {},
    "promp": {"--config.outer": "promp", "--config.kl": "0.01"},
    "maml-ppo": {"--config.outer": "ppo"},
    "fomaml": {"--config.first-order": ""},
    "anil": {"--config.head-only": ""},
    "meta-sgd": {"--config.learned-rates": ""},
    "reptile": {"--config.outer": "reptile"},
}
_PLAIN: Options = {
    "--config.context-size": "0", "--config.spread": "0", "--config.taught": "0",
    "--config.hidden": "128",
    "--config.no-normalize": "",
    "--config.outer": "trpo", "--config.rollouts": "5", "--config.std": "0.5",
    "--config.no-every-round": "", "--config.no-learned-sizes": "", "--config.tasks": "20",
    "--config.inner-steps": "3", "--config.inner-rate": "0.02", "--config.inner-decay": "0.6",
    "--config.whole-inner": "", "--config.kl": "0.03", "--config.minibatches": "1",
    "--config.epochs": "10", "--config.outer-rate": "1e-3", "--config.anneal": "0",
    "--steps": "8000000", "--evaluate-every": "600000", "--evaluation-episodes": "4",
}
_LAST_ROUND = ("--config.no-every-round", "--config.no-learned-sizes", "--config.inner-steps", "5",
               "--config.tasks", "20")
_LAST_OF_THREE = ("--config.no-every-round", "--config.no-learned-sizes", "--config.inner-steps",
                  "3", "--config.tasks", "30")
# Without a teacher noise must find what it would have shown.
_ALONE = (*_LAST_ROUND, "--config.taught", "0", "--config.std", "0.5")
_ROUNDS = {"maml (last round)": _LAST_ROUND, "maml (last of three)": _LAST_OF_THREE,
           "maml (alone)": _ALONE}
_GRADIENTS = (*_LAST_ROUND, "--config.spread", "0", "--config.context-size", "16",
              "--config.inner-rate", "2", "--config.inner-decay", "0.7",
              "--config.hidden", "128", "--config.std", "0.2", "--config.taught", "37",
              "--config.epochs", "8", "--config.anneal", "50", "--steps", "12000000")
_ARMS, _CHEETAHS = ["reach", "push", "insert"], ["cheetah-dir", "cheetah-vel"]


def _relatives(families: list[str], seed: int, common: Options, suffix: str) -> list[Job]:
    return [
        job
        for name, options in _RELATIVES.items()
        for job in grid(["maml"], families, [seed], label=name + suffix,
                        flags=tuple(w for pair in (common | options).items() for w in pair if w))
    ]


def _jobs(seed: int) -> list[Job]:
    return [
        *_relatives(_CHEETAHS, seed, {}, " (H 100)"),
        *grid(["maml"], _ARMS, [seed], episodes=8),
        *[job for label, flags in _ROUNDS.items()
          for job in grid(["maml"], ["reach"], [seed], episodes=8, label=label, flags=flags)],
        *grid(["maml"], ["insert"], [seed], episodes=8, label="maml (last round)",
              flags=_GRADIENTS),
        *_relatives(_ARMS, seed, _PLAIN, " (plain)"),
        *grid(["finetune"], _ARMS, [seed], episodes=60, label="finetune (60 episodes)",
              flags=("--config.explore", "60")),
    ]


_FEWER = ("--config.tasks", "10", "--config.kl", "0.01", "--config.std", "1.0",
          "--config.inner-rate", "0.1", "--config.decay", "1.0",
          "--config.curvature-rollouts", "20",
          "--family.action-scale", "0.1", "--steps", "24000000", "--evaluate-every", "2400000")
STUDY = [job for seed in range(10) for job in _jobs(seed)] + grid(
    ["maml"], ["cheetah-dir"], flags=_FEWER, label="maml (H 100, 10 tasks)"
)
