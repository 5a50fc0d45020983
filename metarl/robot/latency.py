"""How old observations are and how late commands come into force, and whether that was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.robot.arm import Mode, Stale
from metarl.robot.clock import Clock
from metarl.robot.link import Link

_SAMPLES = 40
_WAIT = 0.5  # s


@dataclass(frozen=True)
class Latency:
    """Delays in seconds, every sample."""

    observation: tuple[float, ...]  # from the encoders to here
    command: tuple[float, ...]  # from here to a report that the guard follows it

    def quantile(self, share: float) -> tuple[float, float]:
        """Of observations, and of commands [s]."""
        return float(np.quantile(self.observation, share)), float(np.quantile(self.command, share))

    def as_dict(self) -> dict[str, Any]:
        """For a log and a bundle, in milliseconds."""
        return {"observation_ms": [1e3 * x for x in self.observation],
                "command_ms": [1e3 * x for x in self.command]}

    def judge(self, trained: Mapping[str, Any], control_step: float) -> tuple[bool, str]:
        """Whether a policy trained with these `--sim2real` settings ({} for none) has met such
        delays, give or take half a control step; and a line that says so."""
        seen, told = (1e3 * x for x in self.quantile(0.95))
        most = [max(trained.get(name, (0.0, 0.0)))
                for name in ("observation_latency", "action_latency")]
        near = 1e3 * control_step / 2
        fine = seen + told <= sum(most) + near
        return fine, f"observations {seen:.0f} ms, commands {told:.0f} ms (95 %); " \
            f"trained with up to {most[0]:.0f} and {most[1]:.0f} ms"


def measure(link: Link, clock: Clock, samples: int = _SAMPLES) -> Latency:
    """Delays of an arm that is on and stands still; it is asked for no motion, and holds after."""
    ages: list[float] = []
    delays: list[float] = []
    zeros = np.zeros(len(link.spec.joints))
    for _ in range(samples):
        began = clock.now()
        seq = link.command(Mode.JOINT_VELOCITY, zeros, 0.2)
        report = link.report(_WAIT)
        while report.seq < seq:
            if clock.now() - began > _WAIT:
                link.hold()
                raise Stale(f"the guard follows no command: {report.reason or report.phase}")
            report = link.report(_WAIT)
        delays.append(clock.now() - began)
        ages.append(clock.now() - report.state.t_host)
    link.hold()
    return Latency(tuple(ages), tuple(delays))
