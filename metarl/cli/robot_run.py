"""`metarl robot run` and `shadow`: a policy at an arm, with as much authority as it is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl.cli.common import parse, print_json, say, show, table
from metarl.cli.robot_link import ArmOptions, Chosen, choose, connected, opening, refuse_arm
from metarl.display import number
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws
from metarl.robot.gate import Monitor
from metarl.robot.log import Recorder, messages
from metarl.robot.rollout import Hands, Rollout
from metarl.robot.session import demote, is_session, own_belief
from metarl.robot.worlds import ArmWorlds, Authority
from metarl.testing.direct import rehearsal
from metarl.trial import Steps

Stage = Literal["replay", "twin", "blended", "10", "25", "100"]
_RUN = """Let a policy act on an arm, episode after episode, each from what it believed at first.

The stages, each with more authority than the one before: replay (the observations of a log), twin
(a simulation in virtual time, no arm), then on the arm metarl robot shadow (which sends nothing),
blended (at 10 %, its say growing over an episode), 10, 25 and 100 % of the speed. Below full speed
the arm goes the same way in more time. Without --live, the guard sends nothing to the arm."""
_SHADOW = """Watch for one episode's time what a policy would ask of an arm as it stands. Torque
stays as it is, nothing is sent, nothing moves."""


@dataclass(frozen=True)
class RunOptions(ArmOptions):
    """How to run it."""

    stage: Stage = "10"  # how much authority the policy has
    episodes: int = 1  # how many
    replay: Path | None = None  # a log.mcap, for the stage replay


def authority(stage: Stage, horizon: int) -> Authority:
    """What a policy may do at a stage."""
    if stage == "blended":
        return Authority(0.1, blend=horizon)
    return Authority(1.0 if stage == "twin" else int(stage) / 100)


def run_run(argv: list[str]) -> int:
    """Run and print; exit code 1 where an episode was invalid, or the policy was demoted."""
    options = parse("robot run", RunOptions, argv, _RUN)
    if options.episodes < 1:
        raise UserError("--episodes must be at least 1")
    if (options.stage == "replay") != (options.replay is not None):
        raise UserError("--stage replay and --replay FILE go together")
    if options.stage in ("replay", "twin"):
        refuse_arm(options, f"--stage {options.stage}")
    if options.replay is not None and not options.replay.exists():
        raise UserError(f"there is no log {options.replay}")
    chosen = choose(options)
    if options.replay is not None:
        return _replay(chosen, options.replay, options)
    given = authority(options.stage, chosen.family.horizon)
    with Recorder(chosen.folder / "log.mcap") as log:
        if options.stage == "twin":
            worlds = rehearsal(chosen.family, chosen.task, given, log=log, history=chosen.history)
            log("session", opening("run", chosen, options, worlds, "rehearsal", False))
            lived, demoted = _live(chosen, worlds, options, log)
        else:
            with connected("run", chosen, options, given, log) as arm:
                lived, demoted = _live(chosen, arm.worlds, options, log)
    if options.json:
        print_json({"policy": str(chosen.path), "stage": options.stage, "demoted": demoted,
                    "folder": str(chosen.folder), "episodes": [r.as_dict() for r in lived]})
    else:
        _report(lived, demoted, chosen.folder)
    return 0 if all(rollout.valid for rollout in lived) and not demoted else 1


def run_shadow(argv: list[str]) -> int:
    """Watch and print."""
    options = parse("robot shadow", ArmOptions, argv, _SHADOW)
    if options.live:
        raise UserError("a shadow sends nothing; leave --live out")
    chosen = choose(options)
    shares, ages = [], []
    with Recorder(chosen.folder / "log.mcap") as log, \
            connected("shadow", chosen, options, Authority(0.1), log, enable=False) as arm:
        worlds, agent = arm.worlds, chosen.policy.agent
        belief = own_belief(chosen.policy, worlds, options.seed)
        for step in range(chosen.family.horizon):
            with torch.no_grad():
                action = agent.act(worlds.look(), belief, None)
            velocity = worlds.velocity(action)
            shares.append(float(np.abs(velocity / worlds.measured.half).max()))
            ages.append(worlds.clock.now() - worlds.report.state.t_host)
            log("shadow", {"t": worlds.clock.now(), "step": step, "obs": worlds.obs[0].tolist(),
                           "action": action[0].tolist(), "velocity": velocity.tolist()})
            worlds.clock.sleep(chosen.family.control_step)
    result = {"policy": str(chosen.path), "folder": str(chosen.folder), "steps": len(shares),
              "most asked for": max(shares), "oldest state [ms]": 1e3 * max(ages)}
    if options.json:
        print_json(result)
    else:
        show(f"{len(shares)} steps watched, nothing sent: it asks for up to {max(shares):.0%} of "
             f"the joints' safe speeds; states were up to {1e3 * max(ages):.0f} ms old\n"
             f"log:  {chosen.folder / 'log.mcap'}")
    return 0


def _live(
    chosen: Chosen, worlds: ArmWorlds, options: RunOptions, log: Recorder
) -> tuple[list[Rollout], str]:
    """The episodes, until the policy is demoted: why, or ""."""
    hands = Hands(chosen.policy.agent, worlds)
    belief = own_belief(chosen.policy, worlds, options.seed)
    returns = chosen.policy.about.get("returns")
    monitor = Monitor(returns) if returns else None
    lived: list[Rollout] = []
    for episode in range(options.episodes):
        rollout, _ = hands.roll(belief, Draws.of(options.seed, EVALUATION + 3 + episode, 1))
        lived.append(rollout)
        log("rollout", {"purpose": "run", **rollout.as_dict()})
        say(f"episode {episode + 1}: return {rollout.total:.2f}"
            + (f"; invalid: {rollout.invalid}" if rollout.invalid else ""))
        why = monitor.demote(rollout) if monitor else ""
        if why:
            session = Path(options.policy)
            if is_session(session):
                demote(session, why)
            return lived, why
    return lived, ""


def _replay(chosen: Chosen, file: Path, options: RunOptions) -> int:
    """How far the policy's actions are from those in a log, given the log's observations."""
    agent, worst, steps = chosen.policy.agent, 0.0, 0
    prior = own_belief(chosen.policy, rehearsal(
        chosen.family, chosen.task, Authority(1.0), history=chosen.history), options.seed)
    belief, obs = prior, None
    for topic, message in messages(file):
        if topic == "start":
            belief, obs = prior, _row(message, "obs")
        elif topic == "step" and obs is not None:
            with torch.no_grad():
                action = agent.act(obs, belief, None)
            worst = max(worst, float((action - _row(message, "action")).abs().max()))
            after, no = _row(message, "obs"), torch.zeros(1, dtype=torch.bool)
            belief = agent.infer(belief, Steps(
                obs, _row(message, "action"), torch.tensor([message["reward"]]), after, no, no))
            obs, steps = after, steps + 1
    if not steps:
        raise UserError(f"{file} holds no steps of an arm")
    if options.json:
        print_json({"file": str(file), "steps": steps, "largest difference": worst})
    else:
        show(f"{steps} steps replayed: its actions differ from the logged ones by up to "
             f"{worst:.3g}")
    return 0


def _row(message: Mapping[str, Any], name: str) -> torch.Tensor:
    return torch.tensor([message[name]], dtype=torch.float32)


def _report(lived: list[Rollout], demoted: str, folder: Path) -> None:
    names = sorted({name for rollout in lived for name in rollout.outcome})
    shown = table("episode", "return", *names, "valid")
    for i, rollout in enumerate(lived, start=1):
        shown.add_row(str(i), number(rollout.total),
                      *(number(rollout.outcome.get(name, float("nan"))) for name in names),
                      "yes" if rollout.valid else f"no: {rollout.invalid}")
    show(shown)
    if demoted:
        show(f"demoted: {demoted}; the base is in charge again")
    show(f"log:  {folder / 'log.mcap'}")
