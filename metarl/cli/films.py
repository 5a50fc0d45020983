"""Films of an agent at work, one file per episode."""

from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from metarl.agent import Agent
from metarl.envs.camera import Camera
from metarl.envs.family import Family, named_task
from metarl.envs.worlds import Worlds
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws
from metarl.trial import Steps
from metarl.video import Recorder


def film_trial(
    agent: Agent, family: Family, tasks: Tensor, index: int, episodes: int, folder: Path
) -> list[Path]:
    """Film task `index` of tasks (M, D) as `evaluate` with seed 0 lives through it, for an agent
    that is judged without noise and in flawless worlds: the first replica, a file per episode.
    Call `metarl.video.choose_backend` before."""
    replicas = agent.plan.replicas
    worlds = Worlds(family, replicas)
    task = tasks[index]
    draws = Draws.of(0, EVALUATION, torch.tensor([index]), replicas)
    worlds.set_tasks(task.expand(replicas, -1))
    worlds.reset(draws=draws)
    belief = agent.prior(task[None], replicas, draws)
    named = named_task(family, task)
    marks, aim = family.marks(named), family.aim(named)
    paths = [folder / f"episode_{k + 1}.mp4" for k in range(episodes)]
    with closing(Camera(worlds.engine.model)) as camera:
        for path in paths:
            with Recorder(path, fps=1 / family.control_step) as recorder:
                over = False
                while not over:
                    recorder.add(camera.picture(*worlds.engine.row(0), marks, aim))
                    with torch.no_grad():
                        action = agent.act(worlds.obs.to(agent.device), belief, None)
                    steps: Steps = worlds.step(action)
                    belief = agent.infer(belief, steps.to(agent.device))
                    over = bool(steps.last[0])
    return paths
