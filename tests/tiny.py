"""The smallest training run that the command line can make, for tests."""

TINY = (
    "--config.latent", "2", "--config.hidden", "8", "--config.layers", "1",
    "--config.encoder-hidden", "8", "--config.encoder-layers", "1", "--config.tasks", "3",
    "--config.episodes", "1", "--config.updates", "3", "--config.batch-tasks", "3",
    "--config.batch", "8", "--config.context", "8", "--family.horizon", "5",
)
STEPS = 15  # env steps of an iteration: 3 tasks, 1 replica, 1 episode of 5 steps


def train(runs: object, iterations: int, *more: str) -> list[str]:
    """The words of a `metarl train` of so many iterations below the directory `runs`."""
    steps = str(STEPS * iterations)
    return ["train", "pearl", "reach", *TINY, "--runs", str(runs), "--steps", steps,
            "--evaluation-episodes", "2", *more]
