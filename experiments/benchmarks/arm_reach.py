"""`reach`, trained in simulation, on the drivers' doubles: through the guard and a shipped driver.

    python -m experiments.benchmarks.arm_reach franka RUN --blind RUN --tasks 20

Each task has a hidden goal and a payload that nobody tells the arm of; where the double is ours, a
damping and a gain of its own as well. The policy adapts for three valid episodes as
`metarl robot adapt` does; the blind one, which learns nothing in them, has as many, since a task
counts as solved where any of them succeeds. An invalid episode (late steps, a latch) is lived anew,
and counted; a task that gives none counts as failed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import metarl
from experiments.record import COMMIT, command, machine, record
from metarl import api, scores
from metarl.envs.family import named_task, sample_tasks
from metarl.envs.reach import Reach
from metarl.evaluate import EVALUATION
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.robot.arm import ArmError, OperatorAck
from metarl.robot.client import GuardLink, start_guard
from metarl.robot.clock import HOST
from metarl.robot.rollout import Hands, Rollout, prior
from metarl.robot.worlds import ArmWorlds, Authority, NeedsHuman
from metarl.testing.apart import Apart
from metarl.testing.body import Flaws
from metarl.testing.fr3 import FrankySim
from metarl.testing.rtde import Ur
from metarl.testing.servo_bus import So101Bus

_ACK = OperatorAck("nobody", "a double")
_EPISODES = 3


def _flaws(task: dict[str, float]) -> Flaws:
    return Flaws(payload=task["payload"], damping=task["damping"], gain=task["gain"])


DOUBLES: dict[str, tuple[Reach, Callable[[dict[str, float]], Apart]]] = {
    "franka": (Reach(arm="fr3"), lambda task: FrankySim(task["payload"])),
    "so101": (Reach(arm="so101"), lambda task: So101Bus(_flaws(task))),
    "ur5e": (Reach(arm="ur5e"), lambda task: Ur(_flaws(task))),
}


def _live(
    arm: str, policy: Policy, task: Tensor, number: int, speed: float, guard_hz: float,
) -> list[Rollout]:
    """The episodes of one task (D,), the invalid ones among them."""
    family, double = DOUBLES[arm]
    lived: list[Rollout] = []
    with double(named_task(family, task)) as body, start_guard(
            arm, body.options, live=True, rate_hz=guard_hz,
            policy_hz=1 / family.control_step) as guard:
        link = guard.link()
        worlds = ArmWorlds(family, link, Authority(speed), HOST,
                           ask=lambda needed: _help(link, needed),
                           history=api.sim2real(policy.about).history)
        worlds.set_tasks(task[None])
        link.enable(_ACK)
        hands = Hands(policy.agent, worlds)
        try:
            hands.adapt(prior(policy.agent, worlds, number), _EPISODES,
                        Draws.of(number, EVALUATION, 1), lived.append)
        except ArmError as problem:
            print(f"      {problem}", flush=True)
        link.close()
    return lived


def _help(link: GuardLink, needed: NeedsHuman) -> bool:
    """The person beside the double lets it go on, as soon as it may."""
    print(f"      {needed.reason}", flush=True)
    for _ in range(20):
        try:
            if link.report(1.0).state.faults:
                link.clear_faults(_ACK)
            link.unlatch(_ACK)
        except ArmError as problem:
            if "not latched" in str(problem):
                return False
            time.sleep(0.1)
        else:
            return True
    return False


def main() -> None:
    """Live, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=DOUBLES)
    parser.add_argument("run", type=Path, help="a run or a bundle")
    parser.add_argument("--blind", type=Path, help="a task-blind one")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--speed", type=float, default=0.25, help="of that in training")
    parser.add_argument("--guard", type=float, default=125.0,
                        help="Hz, lower where doubles do not answer in time for want of cores")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = sample_tasks(DOUBLES[options.arm][0], "test", options.tasks)
    within = {}
    for path in filter(None, (options.run, options.blind)):
        policy = metarl.load(path)
        found = []
        for number, task in enumerate(tasks):
            lived = _live(options.arm, policy, task, number, options.speed, options.guard)
            for rollout in lived:
                print(f"{number:3}  return {rollout.total:7.2f}  "
                      f"{rollout.outcome.get('distance [m]', float('nan')):.4f} m  "
                      f"{rollout.invalid}", flush=True)
            found.append([rollout for rollout in lived if rollout.valid])
        name = policy.about["agent"]
        within[name] = _keep(options, policy.about, found)
        print(f"{name}: success in any of {_EPISODES} episodes {within[name]:.2f}", flush=True)
    record("arm_reach", f"{options.arm}: success in any of {_EPISODES} episodes, "
           f"{options.tasks} tasks, {options.speed:.0%} of the speed", "1",
           next(iter(within.values())), within.get("blind"))


def _keep(
    options: argparse.Namespace, about: dict[str, Any], found: list[list[Rollout]]
) -> float:
    """Rows for scores.csv; the share of tasks in which an episode succeeded."""
    rows = []
    for k in range(_EPISODES):
        lived = [task[k] for task in found if len(task) > k]
        succeeded = sum(rollout.outcome["success"] for rollout in lived) / len(found)
        mean = sum(rollout.total for rollout in lived) / max(len(lived), 1)
        rows.append({
            "family": "reach", "agent": about["agent"], "seed": str(about["seed"]),
            "split": "test", "episode": str(k + 1), "return": f"{mean:.3f}",
            "success": f"{succeeded:.4f}", "env_steps": "", "wall_s": "",
            "machine": f"{options.arm} driver on its double, {options.speed:.0%} speed, "
                       f"{len(found)} tasks; {machine()}",
            "commit": COMMIT, "command": command(),
            "phase": scores.ADAPTING, "adapt_steps": str(k * 50)})
    scores.append(Path(__file__).parents[1] / "results" / "scores.csv", rows)
    return sum(any(rollout.outcome["success"] for rollout in task) for task in found) / len(found)


if __name__ == "__main__":
    main()
