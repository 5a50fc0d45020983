"""Families that each break the contract in one way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from metarl.envs.arrays import Array
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Frame, Parameter, Random, Split, Start
from metarl.envs.hopper_params import HopperParams
from metarl.envs.reach import Reach


class Rounded(Parameter):
    def draw(self, u: float, v: float, split: Split) -> float:
        return round(super().draw(u, v, split), 1)


class Loose(Parameter):
    def draw(self, u: float, v: float, split: Split) -> float:
        return super().draw(np.random.default_rng().random(), v, split)


def with_velocity(kind: type[Parameter]) -> tuple[Parameter, ...]:
    return (kind("velocity", "m/s", "speed", (0.0, 3.0), physics=False),)


class Coarse(CheetahVel):
    parameters = with_velocity(Rounded)


class Unseeded(CheetahVel):
    parameters = with_velocity(Loose)


class Empty(CheetahVel):
    task_counts = (100, 0)


class Undocumented(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], values=(0.0, 5.0), ood=()),)


class Fickle(HopperParams):
    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        super().variant(spec, task)
        spec.body("torso").mass *= 1 + np.random.default_rng().random()


class Soft(CheetahVel):
    def terminated(self, frame: Frame) -> Array:
        return frame.qpos[:, 1] * 0


class Startless(CheetahVel):
    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        return Start(frame.qpos[:1], frame.qvel)


class Generous(CheetahVel):
    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"success": 2 * np.ones(len(task))}


LAST_TASK: dict[str, Array] = {}


class Whispering(CheetahVel):
    """Shows the task from the second observation on."""

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        LAST_TASK.clear()
        return super().reset(frame, task, random)

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        LAST_TASK["task"] = task
        return super().reward(before, action, after, task)

    def observe(self, frame: Frame) -> Array:
        obs = super().observe(frame)
        return obs + LAST_TASK["task"] if LAST_TASK else obs


class Dicey(CheetahVel):
    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        noise = np.random.default_rng().random(frame.qpos.shape)
        return Start(frame.qpos + 0.1 * noise, frame.qvel)


class Crowded(CheetahVel):
    def observe(self, frame: Frame) -> Array:
        return super().observe(frame) * (1.0 if len(frame.qpos) < 16 else 1.001)


class Clocked(CheetahVel):
    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.add_sensor(name="clock", type=mujoco.mjtSensor.mjSENS_CLOCK)
        return spec

    def terminated(self, frame: Frame) -> Array:
        return frame.sensors["clock"][:, 0] >= self.horizon * self.control_step - 1e-6


STARTS: dict[str, Array] = {}


class Remembering(CheetahVel):
    """Takes the newest start of any row for the start of all."""

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        start = super().reset(frame, task, random)
        STARTS["x"] = start.qpos[:, 0]
        return start

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return after.qpos[:, 0] - STARTS["x"]


class Huge(CheetahVel):
    def observe(self, frame: Frame) -> Array:
        return 1e12 * super().observe(frame)


class Dark(Reach):
    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.delete(spec.texture("sky"))
        for geom in spec.geoms:
            geom.rgba, geom.material = [0, 0, 0, 1], ""
        return spec


class Blank(Reach):
    """Looks up into a grey sky."""

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.texture("sky").rgb1 = spec.texture("sky").rgb2 = [0.5, 0.5, 0.5]
        spec.delete(spec.camera("view"))
        spec.worldbody.add_camera(name="view", pos=[0, 0, 5], xyaxes=[1, 0, 0, 0, -1, 0])
        return spec


class Away(Reach):
    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.camera("view").pos = [9, 9, 1]
        return spec


class Easy(Reach):
    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        distance = super().outcome(frame, task)["distance [m]"]
        return {"success": distance < 0.5}


class Shown(CheetahVel):
    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        start = super().reset(frame, task, random)
        return replace(start, qvel=start.qvel + task[:, :1])


class Mingled(CheetahVel):
    def observe(self, frame: Frame) -> Array:
        obs = super().observe(frame)
        return obs - obs.mean(0)


class Column(CheetahVel):
    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return super().reward(before, action, after, task)[:, None]


class Fallen(CheetahVel):
    def terminated(self, frame: Frame) -> Array:
        return np.ones(len(frame.qpos), bool)


class Raising(CheetahVel):
    def observe(self, frame: Frame) -> Array:
        return frame.sensors["flange"]


class Idle(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], physics=True),)


class Endless(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], train=(0.0, float("inf"))),)


class Backward(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], train=(3.0, 0.0)),)


class Overlapping(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], ood=((2.0, 4.0),)),)


@dataclass(frozen=True)
class Disguised(HopperParams):
    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        first, *others = super().parameters
        return replace(first, physics=False), *others


class Refusing(HopperParams):
    def variant(self, spec, task) -> None:
        spec.body("torso").mass = -1


class Hopeless(CheetahVel):
    def expert(self, frame: Frame, task: Array) -> Array:
        return np.zeros((len(task), 6))

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"success": np.zeros(len(task))}


class Lazy(CheetahVel):
    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"success": frame.qvel[:, 0] < task[:, 0]}


class Numb(HopperParams):
    """Its joints have no stiffness: it makes no difference where their springs rest."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (*super().parameters, Parameter("rest", "rad", "of springs", (0.1, 0.9)))

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        super().variant(spec, task)
        spec.joints[-1].springref = task["rest"]
