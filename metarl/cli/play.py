"""`metarl play RUN_OR_BUNDLE`: let a policy act for one episode, and record a video."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from metarl.cli.common import parse, print_json, show, warn
from metarl.errors import UserError
from metarl.run import DEFAULT_ROOT, find, utc
from metarl.video import Recorder, choose_backend

if TYPE_CHECKING:
    from metarl.policy import Policy

_DESCRIPTION = """Let a policy act for one episode of a task and record it as mp4.

A run acts on its prior belief, knowing nothing of the task; a bundle, made by metarl adapt, acts
on what it has learned of its task, which is also the task it plays unless --task says otherwise."""


@dataclass(frozen=True)
class Options:
    """What to play."""

    policy: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_BUNDLE")]
    """A bundle directory, or a run: its directory, part of its name, or `latest`."""
    task: tuple[str, ...] = ()  # name=value ...
    video: Path | None = None  # file to write, ending in .mp4; inside the run by default
    seed: int = 0  # of the start state
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    device: str = "cpu"  # torch device of the agent, as cpu or cuda
    plugin: tuple[str, ...] = ()  # package.module:Name that the run or bundle may import
    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Play, record and print."""
    options = parse("play", Options, argv, _DESCRIPTION)
    path = Path(options.policy)
    if not (path / "bundle.json").is_file():
        path = find(options.policy, options.runs).path
    video = options.video or _default_video(path)
    if video.suffix != ".mp4":
        raise UserError(f"--video {video} must end in .mp4")
    # MuJoCo chooses its OpenGL while it is imported, hence the imports below.
    choose_backend()
    from metarl import api
    from metarl.envs.family import named_task, parse_task

    policy = api.load(path, options.device, options.plugin)
    family = api.build_family(
        policy.about["family"], policy.about["options"], options.plugin, policy.files)
    task = parse_task(family, _words(policy.about, options.task), warn)
    if policy.agent.plan.sees_task:
        policy.belief = api.prior(policy.agent, task, options.seed)
    result = {"policy": str(path), "task": named_task(family, task), "video": str(video),
              **_play(policy, family, task, options.seed, video)}
    if options.json:
        print_json(result)
    else:
        measures = ", ".join(f"{name} {value:,.3f}" for name, value in result["outcome"].items())
        show(f"return {result['return']:,.2f} in {result['steps']} steps"
             + (f" ({measures})" if measures else ""))
        show(f"video: {video}")
    return 0


def _play(policy: "Policy", family: Any, task: Any, seed: int, video: Path) -> dict[str, Any]:
    """One episode, of which the first replica is recorded: `return`, `steps` and `outcome`."""
    import torch

    from metarl.api import sim2real
    from metarl.envs.camera import Camera
    from metarl.envs.family import named_task
    from metarl.envs.sim2real import make_worlds
    from metarl.evaluate import EVALUATION
    from metarl.randomness import Draws

    agent, belief = policy.agent, policy.belief
    worlds = make_worlds(family, policy.replicas, sim2real(policy.about))
    worlds.set_tasks(task.expand(policy.replicas, -1))
    worlds.reset(draws=Draws.of(seed, EVALUATION, 1, policy.replicas))
    named = named_task(family, task)
    marks, aim = family.marks(named), family.aim(named)
    camera = Camera(worlds.engine.model)
    rewards: list[float] = []
    outcome = {}
    with closing(camera), Recorder(video, fps=1 / family.control_step) as recorder:
        recorder.add(camera.picture(*worlds.engine.row(0), marks, aim))
        while len(rewards) < family.horizon:
            with torch.no_grad():
                action = agent.act(worlds.obs.to(agent.device), belief, None)
            steps = worlds.step(action, autoreset=False)
            belief = agent.infer(belief, steps.to(agent.device))
            recorder.add(camera.picture(*worlds.engine.row(0), marks, aim))
            rewards.append(steps.reward[0].item())
            if steps.last[0]:
                outcome = {name: value[0].item() for name, value in steps.outcome.items()}
                break
    return {"return": sum(rewards), "steps": len(rewards), "outcome": outcome}


def _words(about: dict[str, Any], words: tuple[str, ...]) -> list[str]:
    """The task's words: the bundle's own, except where the command line says otherwise."""
    named = {word.partition("=")[0] for word in words}
    own = about.get("task", {})
    return [f"{name}={value!r}" for name, value in own.items() if name not in named] + list(words)


def _default_video(path: Path) -> Path:
    """Inside a run; beside a bundle, whose files are sealed."""
    if (path / "bundle.json").is_file():
        return path.parent / f"{path.name}_{utc()}.mp4"
    return path / "videos" / f"{utc()}.mp4"
