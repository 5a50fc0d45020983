"""Names become objects here: families and agents by name, runs and bundles by path."""

import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl import checkpoint
from metarl.agent import Agent, Shapes, check_config
from metarl.agents import AGENTS
from metarl.checkpoint import Checkpoint
from metarl.curriculum import Curriculum
from metarl.envs import FAMILIES, described
from metarl.envs.expert import Expert
from metarl.envs.family import Family, Split, default_task, sample_tasks
from metarl.envs.form import check_form
from metarl.envs.mjcf import Files
from metarl.envs.sim2real import Sim2Real, make_worlds
from metarl.errors import DamagedFile, UserError, unknown
from metarl.evaluate import EVALUATION
from metarl.plugins import imported
from metarl.policy import BUNDLE, Policy, check_sizes, is_bundle, misfits, read_bundle
from metarl.randomness import Draws
from metarl.run import Run, find
from metarl.settings import build_config
from metarl.train import Setting

Warn = Callable[[str], None]
FLAWLESS = Sim2Real()


def load(path: str | Path, device: str = "cpu", plugins: Collection[str] = ()) -> Policy:
    """The policy of a bundle directory, or of a run's latest checkpoint with the prior belief: by
    its directory, a part of its name, or as "latest".

    A run or bundle may name nothing that is imported: components are looked up in metarl's
    registries and in installed entry points. Allow others in `plugins`, as `package.module:Name`.
    Raises UserError where there is neither run nor bundle, DamagedFile where a file was altered.
    """
    path = Path(path)
    if is_bundle(path):
        return _load_bundle(path, device, plugins)
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"{path} is neither a run nor a bundle: it has no config.json or "
                        "bundle.json")
    run = find(str(path))
    family, agent, _ = trained(run, device, plugins)
    belief = prior(agent, default_task(family), int(run.config["seed"]))
    return Policy(agent, belief, about(run, agent), run.files)


def prior(agent: Agent, task: Tensor, seed: int) -> Any:
    """What an agent that is put to use believes of a task (D,) before its first step."""
    draws = Draws.of(seed, EVALUATION, 1, agent.plan.replicas)
    return agent.prior(task[None], agent.plan.replicas, draws)


def build(
    run: Run, device: str = "cpu", plugins: Collection[str] = ()
) -> tuple[Family, Agent]:
    """The family and the agent of a run, as they were before the first iteration."""
    config = run.config
    agent = build_agent(
        config["agent"], config["config"], Shapes(**config["shapes"]), int(config["seed"]),
        device, plugins,
    )
    return family_of(run, plugins), agent


def family_of(run: Run, plugins: Collection[str] = ()) -> Family:
    """The family of a run, with the run's options."""
    return build_family(run.config["family"], run.config["options"], plugins, run.files)


def task_count(family: Family, config: Mapping[str, Any], split: Split) -> int:
    """On how many tasks of a split a run is judged if nobody says otherwise."""
    most = train_count(family, config) if split == "train" else family.task_counts[1]
    return min(most, family.task_counts[1])


def train_count(family: Family, config: Mapping[str, Any]) -> int:
    """On how many tasks a run of this configuration is trained."""
    return int(config.get("train_tasks") or family.task_counts[0])


def switch_every(run: Run) -> int:
    """After how many episodes of a trial the tasks of a run change; 0: never."""
    return int(run.config.get("trial", {}).get("switch_every", 0))


def sim2real(config: Mapping[str, Any]) -> Sim2Real:
    """The flaws of a real arm that a run's configuration, or a bundle, was trained with."""
    return build_config("flaw of a real arm", Sim2Real, config.get("sim2real", {}))


def restore(run: Run, agent: Agent, warn: Warn, strict: bool = False) -> Checkpoint | None:
    """Give an agent the state of the run's latest whole checkpoint, and return that; None where
    there is none yet. Raises DamagedFile, also for a fallback if `strict`."""
    found = checkpoint.latest_good(run.checkpoints, warn, strict)
    if found is None:
        if (status := run.status)["state"] in ("done", "interrupted"):
            raise DamagedFile(f"{run.checkpoints} holds no checkpoint, though the run was saved at "
                              f"env step {status['step']:,}; put them back, or train anew")
        return None
    with misfits(f"{found.path} does not fit the agent that {run.path}/config.json describes; "
                 f"metarl {run.config['metarl']} at commit {run.environment.get('commit')} "
                 "wrote it"):
        agent.load_state(found.tensors["agent"])
    return found


def trained(
    run: Run, device: str = "cpu", plugins: Collection[str] = (), warn: Warn | None = None,
    strict: bool = False,
) -> tuple[Family, Agent, Checkpoint]:
    """The family of a run, its agent as trained so far, and the checkpoint that holds it.

    Raises UserError where there is no checkpoint yet.
    """
    family, agent = build(run, device, plugins)
    found = restore(run, agent, warn or to_stderr, strict)
    if found is None:
        raise UserError(f"{run.path} has no checkpoint yet; go on with metarl resume {run.words}")
    return family, agent, found


def about(run: Run, agent: Agent, **more: Any) -> dict[str, Any]:
    """What a bundle made from this run says of itself."""
    config = run.config
    kept = ("metarl", "agent", "config", "family", "options", "seed", "shapes", "sim2real")
    return {**{k: config[k] for k in kept if k in config}, "run": run.name,
            "replicas": agent.plan.replicas, **more}


def build_family(
    name: str, options: Mapping[str, Any] | None = None, plugins: Collection[str] = (),
    files: Files | None = None,
) -> Family:
    """The family of this name, or the one that `files` describe, with these options. Raises
    UserError for an unknown one of either."""
    cls = described.family_class(files, name, "family") if files else family_class(name, plugins)
    return build_config(f"option of {name}", cls, options or {})


@dataclass(frozen=True)
class Chosen:
    """The family that a command line names or describes."""

    name: str
    cls: type[Family]
    files: Files  # that describe it; none where it has a class
    words: str  # of a command line that choose it


def choose_family(name: str | None, mjcf: Path | None, vary: Path | None) -> Chosen:
    """A family by its name, or by an MJCF file and a YAML of what varies: one of both ways.

    What is typed on the command line may be imported; what a file says may not.
    """
    if mjcf is None and vary is None:
        if name is None:
            raise UserError("FAMILY missing; name one of metarl list, or describe one with "
                            "--mjcf arm.xml --vary arm.yaml")
        return Chosen(name, family_class(name, plugins=[name]), {}, name)
    if name is not None:
        raise UserError(f"{name} and {'--mjcf' if mjcf else '--vary'}: name a FAMILY or describe "
                        "one with --mjcf and --vary, not both")
    if mjcf is None or vary is None:
        given, lacking, what = ("--mjcf", "--vary", "the YAML that says what varies") if mjcf else (
            "--vary", "--mjcf", "the robot's model")
        raise UserError(f"{given} needs {lacking} as well: {what}")
    cls = described.read(mjcf, vary)
    if cls.name in known_names("metarl.families", FAMILIES):
        raise UserError(f"{vary}: name: {cls.name} is a family already; write another")
    return Chosen(cls.name, cls, cls.files, shlex.join(["--mjcf", str(mjcf), "--vary", str(vary)]))


def build_agent(
    name: str, config: Mapping[str, Any], shapes: Shapes, seed: int, device: str = "cpu",
    plugins: Collection[str] = (),
) -> Agent:
    """A fresh agent of this name. Raises UserError for an unknown name, setting or device."""
    agent = agent_class(name, plugins)
    settings = build_config(f"setting of {name}", agent.Config, config)
    check_config(settings)
    return agent(settings, shapes, seed, build_device(device))


def build_device(name: str) -> torch.device:
    """The torch device. Raises UserError for one that is not there, or that holds no numbers."""
    try:
        device = torch.device(name)
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # what follows is for programmers
        raise UserError(f"device {name!r} cannot be used ({reason}); use --device cpu") from None
    return device


def family_class(name: str, plugins: Collection[str] = ()) -> Any:
    """The class of a family: built in, by entry point `metarl.families`, or in `plugins`."""
    found = _look_up("family", "metarl.families", FAMILIES, name, plugins)
    if not (isinstance(found, type) and is_dataclass(found) and hasattr(found, "parameters")):
        raise UserError(f"{name} is no family; it must be a frozen dataclass that derives from "
                        "metarl.envs.family.Family")
    check_form(found, name)
    return found


def agent_class(name: str, plugins: Collection[str] = ()) -> Any:
    """The class of an agent: built in, by entry point `metarl.agents`, or in `plugins`."""
    found = _look_up("agent", "metarl.agents", AGENTS, name, plugins)
    if not is_dataclass(getattr(found, "Config", None)):
        raise UserError(f"{name} is no agent; it must be a class with the verbs of "
                        "metarl.agent.Agent and a dataclass Config")
    return found


def known_names(group: str, own: Collection[str]) -> list[str]:
    """Every name that can be used without a plugin, built-in ones first."""
    return [*own, *sorted({p.name for p in metadata.entry_points(group=group)} - set(own))]


def build_setting(family: Family, agent: Agent, config: Mapping[str, Any]) -> Setting:
    """Worlds and task sets to train this agent in this family with, as a run's configuration asks.
    The task sets do not depend on the seed, so that all runs of a family meet the same tasks."""
    plan, held_out = agent.plan, family.task_counts[1]
    flaws, trial = sim2real(config), config.get("trial", {})
    worlds = make_worlds(family, plan.tasks * plan.replicas, flaws)
    tasks = sample_tasks(family, "train", train_count(family, config))
    demonstrations = trial.get("demonstrations", 0.0)
    chosen = config.get("tasks", "uniform") == "curriculum"
    return Setting(
        worlds=worlds,
        judge=make_worlds(family, held_out * plan.replicas, flaws),
        train=tasks,
        validation=sample_tasks(family, "validation", held_out),
        seed=int(config["seed"]),
        switch_every=int(trial.get("switch_every", 0)),
        expert=Expert(worlds) if demonstrations else None,
        demonstrations=float(demonstrations),
        teacher=Expert(worlds) if plan.taught else None,
        curriculum=Curriculum(descriptions(family, tasks)) if chosen else None,
    )


def descriptions(family: Family, tasks: Tensor) -> dict[str, Tensor]:
    """Numbers (P,) that tell tasks (P, D) apart, by name: each parameter, and of a choice between
    what has names, whether it is this one."""
    found = {}
    for p, column in zip(family.parameters, tasks.T, strict=True):
        if not p.labels:
            found[p.name] = column
        for value, label in zip(p.values, p.labels, strict=False):
            found[f"{p.name}/{label}"] = (column == value).double()
    return found


def check_expert(family: Family, agent: Agent, share: float) -> None:
    """Raise UserError where the expert cannot act in this share of an agent's trials, or teach it.
    """
    if not 0 <= share <= 1:
        raise UserError(f"--trial.demonstrations {share:g} is no share; give one from 0 to 1")
    options = {"--trial.demonstrations": share, "--config.taught": agent.plan.taught}
    for option, asked in options.items():
        if asked and type(family).expert is Family.expert:
            raise UserError(f"{family.name} has no scripted expert to show anything; train without "
                            f"{option}")
    if share and not agent.plan.off_policy:
        raise UserError("--trial.demonstrations: this agent learns from its own actions alone; "
                        "pearl and recurrent-sac learn from others', too, and rl2, varibad "
                        "and maml imitate an expert by --config.taught")


def check_switch(family: Family, agent: Agent, every: int) -> None:
    """Raise UserError where this agent's tasks cannot change every so many episodes."""
    if every < 0:
        raise UserError(f"tasks cannot change every {every} episodes; 0 means never")
    if every and min(family.task_counts) < 2:
        raise UserError(f"{family.name} has one task only: it cannot change into another")
    if every and agent.plan.sees_task:
        raise UserError("this agent is told its task once, when a trial begins: it would not hear "
                        "of another; blind and finetune are baselines where tasks change")
    ends_early = type(family).terminated is not Family.terminated
    if every and agent.plan.replicas > 1 and ends_early:
        raise UserError(
            f"episodes of {family.name} end at different times, and this agent pools what "
            f"{agent.plan.replicas} rows live in one task: they would change at different times"
            + ("" if agent.plan.pools else "; --config.replicas 1 gives each row a task")
        )


def resolved(agent: str, config: Any, family: str, options: Any, shapes: Shapes) -> dict[str, Any]:
    """The part of a run's configuration from which `restore` builds family and agent again."""
    from metarl import __version__

    return {
        "metarl": __version__, "agent": agent, "config": asdict(config),
        "family": family, "options": asdict(options), "shapes": asdict(shapes),
    }


def find_run(name: str, root: Path) -> Run:
    """As `metarl.run.find`, refusing a bundle with a word about what it is good for."""
    if is_bundle(Path(name)):
        raise UserError(f"{name} is a bundle, not a run: it can be played, not trained or adapted")
    return find(name, root)


def _load_bundle(path: Path, device: str, plugins: Collection[str]) -> Policy:
    about, policy, belief, files = read_bundle(path)
    with misfits(f"{path} does not hold what its {BUNDLE} says"):
        make = partial(build_agent, about["agent"], about["config"], Shapes(**about["shapes"]),
                       int(about["seed"]), plugins=plugins)
        if about["agent"] in AGENTS:  # others need not be such as can be made without memory
            check_sizes(make, policy)
        agent = make(device)
        agent.load_policy_state(policy)
        found = Policy(agent, agent.unpack(belief), about, files)
        found.predict(np.zeros(about["shapes"]["obs"]))  # a belief of other sizes cannot act
    return found


def _look_up(
    kind: str, group: str, own: Mapping[str, Any], name: str, plugins: Collection[str]
) -> Any:
    if name in own:
        return own[name]
    points = {point.name: point for point in metadata.entry_points(group=group)}
    if name in points:
        return points[name].load()
    if ":" not in name:
        raise unknown(kind, name, [*own, *points])
    if name not in ([plugins] if isinstance(plugins, str) else plugins):
        raise UserError(f"{kind} {name!r} would be imported on a file's word alone; allow it with "
                        f"--plugin {name}, in Python with plugins=[{name!r}]")
    return imported(kind, name)


def to_stderr(text: str) -> None:
    """How warnings are told where nobody says otherwise."""
    print(f"metarl: {text}", file=sys.stderr)
