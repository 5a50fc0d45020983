"""How far and how fast an arm may go, and the core of the guard that keeps it there.

A target never leaves the limits because none is taken from which the arm could not stop inside
them: a candidate for the next target comes with the whole way to rest after it, and it is taken
only if that way keeps to the limits of position, workspace and speed; else the arm follows the way
to rest that came with the target before. Acceleration is bounded by what a step may add to the
speed, jerk by averaging the last few speeds, so no limit can contradict another.

Plain numpy: it runs in a process that carries neither torch nor MuJoCo.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from metarl.robot.arm import ArmError, ArmSpec, Chain, Mode, Vector

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
TOOL_SPEED = 0.25  # m/s, the manual reduced speed of the ISO 10218 family
MARGIN = 0.05  # rad, kept from the joints' stops
RAMP = 0.02  # s, in which acceleration builds up where the vendor publishes no limit of jerk
# What may change a target, in the order of the bits that say so.
REASONS = ("tube", "position", "velocity", "tool speed", "acceleration", "workspace", "braking")
TUBE, POSITION, VELOCITY, SPEED, ACCELERATION, WORKSPACE, BRAKING = (
    1 << bit for bit in range(len(REASONS))
)
_PER_JOINT = {"q_min", "q_max", "dq_max", "ddq_max", "jerk_max", "tau_max"}
_SHARES = np.array([1.0, 0.6, 0.3, 0.1, 0.03])  # of what is wanted, tried in turn
_SHY = 1 - 1e-9  # so that rounding does not carry a target over a limit


def reasons(bits: int) -> tuple[str, ...]:
    """The names of the limits in a bit field."""
    return tuple(name for bit, name in enumerate(REASONS) if bits >> bit & 1)


@dataclass(frozen=True)
class Limits:
    """Finite and above zero, all of them. Other limits are made from these only by `shrunk`."""

    q_min: tuple[float, ...]  # rad, margin included
    q_max: tuple[float, ...]
    dq_max: tuple[float, ...]  # rad/s
    ddq_max: tuple[float, ...]  # rad/s^2
    jerk_max: tuple[float, ...]  # rad/s^3
    tau_max: tuple[float, ...] | None  # N m, a monitor; None where nobody can say
    box: Box  # m, lowest and highest corner of where flange and tool may be, in the world
    speed: float = TOOL_SPEED  # m/s, of every joint's origin, the flange and the tool
    tool: float = 0.0  # m, from the flange along its z to the point of the tool
    tube: float = 0.1  # rad, that a target may be away from where the arm is
    tracking: float = 0.2  # rad, at which the arm does not follow any more
    temperature: float = 65.0  # degrees Celsius, a monitor

    def __post_init__(self) -> None:
        corners = np.array(self.box, np.float64)
        if corners.shape != (2, 3) or not np.isfinite(corners).all() or (
                corners[0] >= corners[1]).any():
            raise ArmError("the workspace is two corners of 3 finite numbers, lowest first")
        joints = len(self.q_min)
        for name, value in vars(self).items():
            if name == "box" or (name == "tau_max" and value is None):
                continue
            numbers = np.array(value, np.float64)
            shape = (joints,) if name in _PER_JOINT else ()
            if not np.isfinite(numbers).all() or numbers.shape != shape:
                raise ArmError(f"the limit {name} needs {joints if shape else 1} finite numbers")
            if name not in ("q_min", "q_max", "tool") and (numbers <= 0).any():
                raise ArmError(f"the limit {name} must be above zero")
        if any(low >= high for low, high in zip(self.q_min, self.q_max, strict=True)):
            raise ArmError("a joint's q_min is not below its q_max: is the margin too wide?")
        if self.tool < 0:
            raise ArmError("a tool's length is not below zero")

    @staticmethod
    def of(spec: ArmSpec, *, margin: float = MARGIN, tool: float = 0.0,
           jerk: float | None = None, **tighter: object) -> "Limits":
        """Those of an arm's spec, a margin [rad] inside its stops, and what is tighter still. The
        tool's length [m] is a fact and no limit. Where the vendor publishes no jerk limit and none
        is given [rad/s^3], acceleration builds up in RAMP."""
        if not 0 <= margin < math.inf:
            raise ArmError("the margin must be finite and not below zero")
        vendor = spec.jerk_max or tuple(a / RAMP for a in spec.ddq_max)
        reach = tool + sum(math.dist(frame[:3], (0, 0, 0)) for frame in spec.chain.frames)
        widest = Limits(
            q_min=tuple(q + margin for q in spec.q_min),
            q_max=tuple(q - margin for q in spec.q_max),
            dq_max=spec.dq_max, ddq_max=spec.ddq_max, jerk_max=vendor, tau_max=spec.tau_max,
            box=((-reach, -reach, 0.0), (reach, reach, reach)), tool=tool,
        )
        if jerk is not None:
            tighter["jerk_max"] = (jerk,) * len(spec.joints)
        return widest.shrunk(**tighter)

    def shrunk(self, **tighter: object) -> "Limits":
        """These, with some made tighter. Raises ArmError for one that would grow."""
        known = {field.name for field in fields(self)}
        if strange := sorted(set(tighter) - known):
            raise ArmError(f"{strange[0]} is no limit; known: {', '.join(sorted(known))}")
        made = replace(self, **tighter)  # pyright: ignore[reportArgumentType]
        if made.tool != self.tool:
            raise ArmError("a tool's length is no limit; give it when the limits are made")
        low, high = _bounds(self)
        if (_bounds(made)[0] < low).any() or (_bounds(made)[1] > high).any():
            names = ", ".join(sorted(tighter))
            raise ArmError(f"limits only shrink: {names} would allow more than before")
        return made


def _bounds(limits: Limits) -> tuple[Vector, Vector]:
    """All limits as lower and upper ones."""
    torques = limits.tau_max or (math.inf,) * len(limits.q_min)
    return (np.array([*limits.q_min, *limits.box[0]]),
            np.array([*limits.q_max, *limits.dq_max, *limits.ddq_max, *limits.jerk_max, *torques,
                      *limits.box[1], limits.speed, limits.tube, limits.tracking,
                      limits.temperature]))


class Kinematics:
    """Where the points of an arm are: the joints' origins, the flange, and a tool's point."""

    def __init__(self, chain: Chain, tool: float = 0.0) -> None:
        frames = np.array(chain.frames, np.float64)
        # A frame's axes beside its place, so that one product moves both along.
        self._frames = np.concatenate([frames[:, 3:].reshape(-1, 3, 3), frames[:, :3, None]], 2)
        self._base, self._tool = np.array(chain.base, np.float64).reshape(3, 3), tool
        self.tips = 2 if tool else 1  # points at the end that the workspace holds

    def points(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, P, 3) metres in the world, at joint angles (B, J)."""
        rows, joints = q.shape
        found = np.empty((rows, joints + self.tips, 3))
        cosine, sine = np.cos(q), np.sin(q)
        turned = np.empty((rows, 3, 3))
        turned[:] = self._base
        place = 0.0
        for i in range(joints + 1):
            frame = (turned.reshape(-1, 3) @ self._frames[i]).reshape(rows, 3, 4)
            found[:, i] = place = place + frame[:, :, 3]
            if i < joints:
                x, y, c, s = frame[:, :, 0], frame[:, :, 1], cosine[:, i, None], sine[:, i, None]
                turned[:, :, 0] = c * x + s * y
                turned[:, :, 1] = c * y - s * x
                turned[:, :, 2] = frame[:, :, 2]
            elif self._tool:
                found[:, i + 1] = place + self._tool * frame[:, :, 2]
        return found


class Shaper:
    """Turns what a policy wants into the next target, once in a period.

    `q` is the last target (J,) [rad], `dq` its speed [rad/s], `limited` the bits of what changed
    it.
    """

    def __init__(self, limits: Limits, chain: Chain, period: float) -> None:
        self._limits, self._period = limits, period
        self._kinematics = Kinematics(chain, limits.tool)
        self._dq_max = _SHY * np.array(limits.dq_max)
        self._ddq_max = _SHY * np.array(limits.ddq_max)
        self._low, self._high = np.array(limits.q_min), np.array(limits.q_max)
        # A mean of n speeds, whose steps are at most a dt, has jerk of at most 2 a / (n dt).
        ratio = 2 * self._ddq_max / (np.array(limits.jerk_max) * period)
        self._window = max(1, math.ceil(float(ratio.max())))
        self._lag = (self._window + 1) / 2 * period  # s, until a mean shows a change
        self.start((self._low + self._high) / 2)

    def start(self, q: Vector) -> None:
        """Be at rest here. Where that is beyond a margin or outside the workspace, the arm may
        come back, but not go further."""
        self.q, self.dq = q.copy(), np.zeros_like(q)
        self.limited = 0
        self._points = self._kinematics.points(q[None])
        tips = self._points[0, -self._kinematics.tips:]
        self._floor = np.minimum(self._low, q)
        self._ceiling = np.maximum(self._high, q)
        self._box_low = np.minimum(self._limits.box[0], tips)
        self._box_high = np.maximum(self._limits.box[1], tips)
        self._speeds = np.zeros((self._window - 1, len(q)))  # the last ones, before averaging
        self._u = np.zeros_like(q)  # rad/s, the newest one
        # The way to rest from here: speeds before averaging, and targets.
        self._way_u, self._way_q, self._way_points = self._u[None], self.q[None], self._points
        self._done = 1  # steps along it

    @property
    def at_rest(self) -> bool:
        """Whether the target stands still, and would go on to."""
        return not (self.dq.any() or self._u.any() or self._speeds.any())

    def tick(self, measured: Vector, wanted: Vector | None, mode: Mode) -> Vector:
        """The next target (J,), given where the arm is and a speed [rad/s] or a place [rad] that a
        policy wants; None stops the arm."""
        self.limited = 0
        if wanted is None:
            self._brake()
            return self.q
        speed = self._toward(wanted) if mode is Mode.JOINT_POSITION else wanted
        u = self._reachable(self._bounded(speed, measured))
        if not self._take(u):
            self.limited |= BRAKING
            self._brake()
        return self.q

    # What is wanted, made modest.

    def _stoppable(self, distance: Vector) -> Vector:
        """The speed from which a joint can stop within a distance, given how late it reacts:
        v^2 / 2 a + v lag = d."""
        a, late = self._ddq_max, self._ddq_max * (self._lag + self._period)
        return np.sqrt(late * late + 2 * a * np.maximum(distance, 0.0)) - late

    def _toward(self, goal: Vector) -> Vector:
        """A speed straight to a place, at which all joints arrive together."""
        way = goal - self.q
        size = np.abs(way)
        if size.max() < 1e-9:
            return np.zeros_like(way)
        speed = np.minimum(self._stoppable(size), self._dq_max)
        return way * float(np.min(speed[size > 1e-12] / size[size > 1e-12]))

    def _bounded(self, speed: Vector, measured: Vector) -> Vector:
        # Together, so that the direction survives.
        share = 1 / max(1.0, float(np.max(np.abs(speed) / self._dq_max)))
        self.limited |= VELOCITY if share < 1 else 0
        slow = self._slowed(share * speed)
        away = self.q - measured
        tube = self._limits.tube
        # A joint that may not go on does not keep the others from it.
        kept = self._between(slow, self._stoppable(tube + away), self._stoppable(tube - away))
        self._note(TUBE, kept, slow)
        inside = self._between(kept, self._stoppable(self.q - self._floor),
                               self._stoppable(self._ceiling - self.q))
        self._note(POSITION, inside, kept)
        return slow if inside is slow else self._slowed(inside)

    def _slowed(self, speed: Vector) -> Vector:
        """A speed at which no point is too fast."""
        ahead = self._kinematics.points((self.q + self._period * speed)[None]) - self._points
        moved = math.sqrt(float((ahead * ahead).sum(2).max())) / self._period
        if moved <= 0.99 * self._limits.speed:
            return speed
        self.limited |= SPEED
        return speed * (0.99 * self._limits.speed / moved)

    @staticmethod
    def _between(speed: Vector, down: Vector, up: Vector) -> Vector:
        within = (speed >= -down) & (speed <= up)
        return speed if within.all() else np.minimum(np.maximum(speed, -down), up)

    def _note(self, bit: int, now: Vector, before: Vector) -> None:
        if now is not before:
            self.limited |= bit

    def _reachable(self, speed: Vector) -> NDArray[np.float64]:
        """The next speeds (S, J): one that keeps the direction of the change, and others on the
        way to shares of what is wanted, each joint as fast as it may."""
        most = self._ddq_max * self._period
        step = _SHARES[:, None] * speed - self._u
        ratio = float(np.max(np.abs(step[0]) / most))
        kept = np.minimum(np.maximum(step, -most), most)
        if ratio > 1:
            self.limited |= ACCELERATION
            step[0] /= ratio
        return self._u + np.concatenate([step[:1], kept])

    # What may be done.

    def _ways(self, u: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From candidates (S, J) to rest: speeds before averaging, and targets, (S, K, J). Each
        joint slows down as fast as it may."""
        slower = self._ddq_max * self._period
        steps = math.ceil(float(np.max(np.abs(u) / slower))) + self._window
        left = np.abs(u)[:, None] - np.arange(steps)[:, None] * slower
        speeds = np.copysign(np.maximum(left, 0.0), u[:, None])
        if self._window == 1:
            means = speeds
        else:
            before = np.broadcast_to(self._speeds, (len(u), *self._speeds.shape))
            whole = np.concatenate([before, speeds], 1)
            means = sum(whole[:, i: i + steps] for i in range(self._window)) / self._window
        return speeds, self.q + self._period * np.cumsum(means, 1)

    def _take(self, candidates: NDArray[np.float64]) -> bool:
        """Go on with the first candidate after which the arm can stop inside the limits."""
        for some in (candidates[:1], candidates[1:]):
            speeds, targets = self._ways(some)
            rows, steps, joints = targets.shape
            points = self._kinematics.points(targets.reshape(-1, joints))
            points = points.reshape(rows, steps, -1, 3)
            good = self._allowed(targets, points)
            if good.any():
                first = int(np.argmax(good))
                self._way_u, self._way_q = speeds[first], targets[first]
                self._way_points, self._done = points[first], 0
                self._brake()
                self._tighten(targets[first], points[first])
                return True
            self.limited |= WORKSPACE
        return False

    def _allowed(
        self, targets: NDArray[np.float64], points: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        inside = ((targets >= self._floor) & (targets <= self._ceiling)).all((1, 2))
        tips = points[:, :, -self._kinematics.tips:]
        inside &= ((tips >= self._box_low) & (tips <= self._box_high)).all((1, 2, 3))
        far = _SHY * self._limits.speed * self._period
        first = points[:, :1] - self._points
        inside &= (first * first).sum(3).max((1, 2)) <= far * far
        if points.shape[1] > 1:
            moved = points[:, 1:] - points[:, :-1]
            inside &= (moved * moved).sum(3).max((1, 2)) <= far * far
        return inside

    def _brake(self) -> None:
        """One step along the way to rest."""
        if self._done >= len(self._way_q):
            self.dq = np.zeros_like(self.q)
            return
        target, u = self._way_q[self._done], self._way_u[self._done]
        self._points = self._way_points[self._done: self._done + 1]
        self._done += 1
        self.dq = (target - self.q) / self._period
        self.q, self._u = target, u
        if self._window > 1:
            self._speeds = np.concatenate([self._speeds[1:], u[None]])

    def _tighten(self, way: NDArray[np.float64], points: NDArray[np.float64]) -> None:
        """What was outside when it started has no way back out."""
        tips = points[:, -self._kinematics.tips:]
        self._floor = np.minimum(self._low, np.maximum(self._floor, way.min(0)))
        self._ceiling = np.maximum(self._high, np.minimum(self._ceiling, way.max(0)))
        self._box_low = np.minimum(self._limits.box[0], np.maximum(self._box_low, tips.min(0)))
        self._box_high = np.maximum(self._limits.box[1], np.minimum(self._box_high, tips.max(0)))
