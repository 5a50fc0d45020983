"""What varies over an MJCF model and what is wanted of it: the YAML, understood and checked.

    control_step: 0.05                    # s between two actions
    horizon: 50                           # control steps of an episode
    reset: {keyframe: home, qpos_noise: 0.05, qvel_noise: 0}
    observe: [qpos, qvel, sensor:tip]     # this, with all named sensors, where it is left out
    reward:                               # a sum of terms, each with a weight
      - {term: distance, sensor: tip, to: [goal_x, 0, goal_z], weight: -5, log: 0.1}
      - {term: error, sensor: speed, axis: x, to: 1.5, weight: -1}
      - {term: value, sensor: torso, axis: z, weight: 1}
      - {term: control, weight: -0.05}
      - {term: alive, weight: 1}
    success: {sensor: tip, to: [goal_x, 0, goal_z], within: 0.02}
    terminate: {sensor: torso, axis: z, below: 0.3}
    vary:
      goal_x: {range: [0.3, 0.6], ood: [[0.6, 0.7]], unit: m}
      payload: {body: hand, field: mass, range: [0.1, 2]}
      damping: {joint: "*", field: damping, scale: [0.5, 2], distribution: log-uniform}
      gravity: {option: gravity, scale: [0.8, 1.2]}
      terrain: {geom: ground, field: hfield, choices: [flat, stairs, rough]}

A number in `to` may be the name of a parameter, and `to` may be the name of a sensor. Only named
sensors are read, as the MJCF has them (framepos for a position, framelinvel for a velocity). The
terms are those of `metarl.envs.terms`; what may vary, and what a value does there, is in
`metarl.envs.edits`. A parameter has a `range` to set its quantity in, a `scale` of factors on what
the model has, or `choices`. Names may be patterns (`link*`) or lists of names. Actions in [-1, 1]
are scaled to the actuators' ctrlrange.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco

from metarl.envs.document import Node
from metarl.envs.edits import Edit, everything
from metarl.envs.family import Parameter
from metarl.envs.terms import Alive, Condition, Control, Distance, Miss, Place, Reading, Term, Value
from metarl.envs.variation import varied
from metarl.errors import unknown

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOP = ("name", "control_step", "horizon", "observe", "reset", "reward", "success", "terminate",
        "vary")
_NEEDED = ("control_step", "horizon", "reward", "vary")
# Terms of a reward, and what each says beside its weight.
TERMS = {"distance": ("sensor", "to", "log"), "value": ("sensor", "axis"),
         "error": ("sensor", "axis", "to"), "control": (), "alive": ()}
_MOST = 64  # terms of a reward
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Reset:
    """Where an episode begins."""

    keyframe: str | None = None
    qpos_noise: float = 0.0  # U(-x, x) on every hinge [rad] and slide [m]
    qvel_noise: float = 0.0  # U(-x, x) on every velocity [rad/s or m/s]


@dataclass(frozen=True)
class Description:
    """A YAML's meaning, for one model."""

    name: str | None
    control_step: float  # s
    horizon: int
    observe: tuple[str, ...]  # qpos, qvel, sensor:NAME
    reset: Reset
    reward: tuple[tuple[float, Term], ...]
    success: Condition | None
    terminate: tuple[Condition, ...]  # any of these
    parameters: tuple[Parameter, ...]
    edits: tuple[Edit | None, ...]  # of each parameter; None where physics does not see it


def understand(document: Node, spec: mujoco.MjSpec) -> Description:
    """What a YAML says about a model. Raises UserError in one line for what it cannot mean."""
    top = document.entries(_TOP, _NEEDED)
    model = spec.copy().compile()
    _check_actuators(model, document)
    pairs = varied(top["vary"], spec)
    parameters, edits = tuple(p for p, _ in pairs), tuple(e for _, e in pairs)
    reader = _Reader(_sensors(model), tuple(p.name for p in parameters))
    reward = tuple(map(reader.term, _several(top["reward"])))
    success = reader.condition(top["success"]) if "success" in top else None
    blind = _Reader(reader.sensors)  # what ends an episode is seen without knowing the task
    ends = _several(top["terminate"]) if "terminate" in top else []
    for (parameter, edit), node in zip(pairs, top["vary"].mapping().values(), strict=True):
        if edit is None and parameter.name not in reader.used:
            raise node.wrong("nothing depends on it: name what it changes (body, geom, joint, "
                             "actuator, site or option), or use it in the reward or in success")
    return Description(
        name=_name(top["name"]) if "name" in top else None,
        control_step=_control_step(top["control_step"], model.opt.timestep),
        horizon=top["horizon"].whole(1, 100_000),
        observe=_observed(top.get("observe"), reader.sensors),
        reset=_reset(top["reset"], spec) if "reset" in top else Reset(),
        reward=reward, success=success, terminate=tuple(map(blind.condition, ends)),
        parameters=parameters, edits=edits,
    )


def _name(node: Node) -> str:
    name = node.text()
    if not NAME.fullmatch(name):
        raise node.wrong(f"{name!r} must be of small letters, digits, - and _")
    return name


def _check_actuators(model: mujoco.MjModel, document: Node) -> None:
    if not model.nu:
        raise document.wrong("the model has no actuator: there is nothing to learn")
    for i in range(model.nactuator):
        start = int(model.actuator_ctrladr[i])
        own = slice(start, start + int(model.actuator_ctrlnum[i]))
        low, high = model.actuator_ctrlrange[own].T
        if not (model.actuator_ctrllimited[own].all() and (low < high).all()):
            raise document.wrong(f"actuator {model.actuator(i).name!r} of the model needs a "
                                 "ctrlrange, to which actions in [-1, 1] are scaled")


def _control_step(node: Node, timestep: float) -> float:
    step = node.number(1e-6, 100)
    if not (timestep > 0 and math.isfinite(step / timestep)):
        raise node.wrong(f"the model's timestep is {timestep:g} s; give its <option> a timestep "
                         "above 0, as 0.002")
    if round(step / timestep) < 1 or abs(round(step / timestep) * timestep - step) > 1e-9:
        raise node.wrong(f"{step:g} s is not a multiple of the model's timestep {timestep:g} s")
    return step


def _sensors(model: mujoco.MjModel) -> dict[str, int]:
    """The size of each named sensor."""
    named = {model.sensor(i).name: int(model.sensor_dim[i]) for i in range(model.nsensor)}
    return {name: size for name, size in named.items() if name}


def _observed(node: Node | None, sensors: Mapping[str, int]) -> tuple[str, ...]:
    known = ["qpos", "qvel", *(f"sensor:{name}" for name in sensors)]
    if node is None:
        return tuple(known)
    return tuple(item.one_of("observation", known) for item in node.items())


def _reset(node: Node, spec: mujoco.MjSpec) -> Reset:
    entries = node.entries(("keyframe", "qpos_noise", "qvel_noise"))
    names = [key.name for key in everything(spec, "key")]
    noises = {k: n.number(low=0) for k, n in entries.items() if k != "keyframe"}
    keyframe = entries["keyframe"].one_of("keyframe", names) if "keyframe" in entries else None
    return Reset(keyframe, **noises)


def _several(node: Node) -> list[Node]:
    """A list, or the one thing that is not in a list."""
    nodes = node.items() if isinstance(node.value, list) else [node]
    if len(nodes) > _MOST:
        raise node.wrong(f"{len(nodes)} entries; {_MOST} are accepted")
    return nodes


# Rewards.


@dataclass
class _Reader:
    """Reads terms, and notes which parameters they use."""

    sensors: Mapping[str, int]  # name -> size
    parameters: tuple[str, ...] = ()
    used: set[str] = field(default_factory=set)

    def term(self, node: Node) -> tuple[float, Term]:
        """(weight, term)."""
        every = {key for keys in TERMS.values() for key in keys}
        name = node.entries(("term", "weight", *every), ("term", "weight"))["term"].one_of(
            "term", TERMS)
        needed = [key for key in TERMS[name] if key not in ("axis", "log")]
        entries = node.entries(("term", "weight", *TERMS[name]), needed)
        return entries["weight"].number(), self._term(name, entries)

    def _term(self, name: str, entries: Mapping[str, Node]) -> Term:
        if name == "control":
            return Control()
        if name == "alive":
            return Alive()
        if name == "distance":
            log = entries["log"].number(low=0) if "log" in entries else 0.0
            return self._distance(entries, log)
        reading = self._along(entries)
        if name == "value":
            return Value(reading)
        return Miss(reading, self._place(entries["to"], 1))

    def condition(self, node: Node) -> Condition:
        """Of success, or of the end of an episode."""
        entries = node.entries(("sensor", "axis", "to", "within", "above", "below"), ("sensor",))
        if "to" in entries or "within" in entries:
            entries = node.entries(("sensor", "to", "within"), ("sensor", "to", "within"))
            return Condition(self._distance(entries, 0.0), below=entries["within"].number(low=0))
        bounds = {k: entries[k].number() for k in ("above", "below") if k in entries}
        if not bounds:
            raise node.wrong("a bound is missing: to and within, or above, or below")
        return Condition(Value(self._along(entries)), **bounds)

    def _distance(self, entries: Mapping[str, Node], log: float) -> Distance:
        sensor = entries["sensor"].one_of("sensor", self.sensors)
        return Distance(Reading(sensor), self._place(entries["to"], self.sensors[sensor]), log)

    def _along(self, entries: Mapping[str, Node]) -> Reading:
        """One number of a sensor."""
        name = entries["sensor"].one_of("sensor", self.sensors)
        if self.sensors[name] == 1:
            return Reading(name)
        if "axis" not in entries:
            raise entries["sensor"].wrong(f"sensor {name} has {self.sensors[name]} numbers; say "
                                          "which with axis: x, y or z")
        return Reading(name, _AXES.index(entries["axis"].one_of("axis", _AXES)))

    def _place(self, node: Node, size: int) -> Place:
        """`size` numbers, parameters, or a sensor of that size."""
        if isinstance(node.value, str) and node.value in self.sensors:
            if self.sensors[node.value] != size:
                raise node.wrong(f"sensor {node.value} has {self.sensors[node.value]} numbers, "
                                 f"not {size}")
            return Place(reading=Reading(node.value))
        items = node.items() if isinstance(node.value, list) else [node]
        if len(items) != size:
            raise node.wrong(f"{len(items)} numbers where the sensor has {size}")
        columns = [self._column(item) for item in items]
        return Place(tuple(0.0 if c is not None else item.number()
                           for item, c in zip(items, columns, strict=True)), tuple(columns))

    def _column(self, node: Node) -> int | None:
        """The parameter that is named, if it is one; a word that is none is a mistake."""
        if not isinstance(node.value, str) or re.match(r"[-+.\d]", node.value):
            return None
        if not self.parameters:
            raise node.wrong("the end of an episode may not depend on a parameter")
        if node.value not in self.parameters:
            known = [*self.parameters, *self.sensors]
            raise node.wrong(str(unknown("parameter or sensor", node.value, known)))
        self.used.add(node.value)
        return self.parameters.index(node.value)
