"""Whether the guard of an arm keeps its limits, at length, and how long it takes.

    python -m experiments.benchmarks.guard [--commands 1000000] [--steps 10000]

guard: commands of every kind (sensible, wild, NaN, infinite, late, repeated, out of order, of a
wrong width, and random bytes) as they would arrive on its socket, against an arm that stalls,
freezes, lies and faults; afterwards all targets that the arm was sent are held against the limits.
latency: act, infer and the guard's tick together, in the twin's place an arm that costs nothing.
Policies that end are experiments.benchmarks.ends.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch

from experiments.record import record
from metarl.agents.pearl import Pearl
from metarl.cli.common import show, table
from metarl.collect import Tasks
from metarl.envs.arms import ARMS, ArmName
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws
from metarl.robot.arm import ArmError, Command, Mode, OperatorAck
from metarl.robot.keeper import Keeper
from metarl.robot.limits import Limits
from metarl.robot.link import Phase
from metarl.robot.specs import spec_of
from metarl.robot.wire import Kind, Reader, Request, pack_request, unpack_request
from metarl.testing import puppet
from metarl.testing.audit import violations
from metarl.testing.puppet import Clock, Puppet

_ACK = OperatorAck("benchmark", "nothing moves but numbers")
_PERIOD = 0.008  # s, of the guard
_POLICY = 0.05  # s, of the policy
_STRETCH = 2000  # ticks of one life of an arm
_WIDE = np.array([0.0, 1e-9, 0.1, 1.0, 10.0, 1e6])  # how wild a command is, rad or rad/s
_FAULTS = (puppet.silent, puppet.garbled, puppet.nan, puppet.frozen, puppet.old)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    rows: list[tuple[str, str, str, float]] = []
    if options.steps:
        rows += _latency(options.steps)
    if options.commands:
        rows += _stream(options.commands)
    shown = table("figure", "value", "unit")
    for name, figure, unit, value in rows:
        shown.add_row(f"{name}: {figure}", f"{value:.4g}", unit)
        record(name, figure, unit, value)
    show(shown)


# Commands of every kind.


def _stream(wanted: int) -> list[tuple[str, str, str, float]]:
    found, seed, began = Counter[str](), 0, time.monotonic()
    while found["commands"] < wanted:
        name: ArmName = tuple(ARMS)[seed % len(ARMS)]
        found += _life(name, seed)
        seed += 1
        if seed % 10 == 0:
            print(f"{found['commands']} commands, {found['violations']} violations, "
                  f"{time.monotonic() - began:.0f} s", flush=True)
    print(dict(found))
    return [("guard", figure, "1", float(found[figure]))
            for figure in ("commands", "commands accepted", "targets sent", "latches",
                           "bytes ignored", "violations")]


def _life(name: ArmName, seed: int) -> Counter[str]:
    """What comes at an arm, and what became of it."""
    rng, clock = np.random.default_rng(seed), Clock()
    spec = spec_of(name, modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10, 200),
                   watchdog="device", senses=frozenset({"q", "dq"}))
    limits = Limits.of(spec, tool=float(rng.choice([0.0, 0.1])),
                       speed=float(rng.choice([0.25, 0.1, 0.02])))
    home = np.array(ARMS[name].home)
    arm = Puppet(spec, home, clock, share=float(rng.choice([0.1, 0.3, 1.0])))
    keeper = Keeper(arm, limits, period=_PERIOD, policy_period=_POLICY, clock=clock)
    keeper.enable(_ACK)
    reader, seq, found = Reader(), 0, Counter[str]()
    # What the arm was told, tick by tick; a fault ends a piece, as the arm then stops by itself.
    pieces = [[home]]
    wish, mode = np.zeros_like(home), Mode.JOINT_VELOCITY
    for _ in range(_STRETCH):
        clock.now += _PERIOD * (1.0 if rng.random() < 0.98 else rng.uniform(1, 40))
        if rng.random() < 0.05:
            wish = rng.normal(size=len(home)) * rng.choice(_WIDE)
            mode = Mode(rng.choice([Mode.JOINT_VELOCITY, Mode.JOINT_POSITION]))
        many = int(rng.integers(1, 9))
        data = b"".join(_request(rng, clock.now, seq + i, wish, mode) for i in range(many))
        seq += many
        found["commands"] += many
        before = keeper.phase
        found["commands accepted"] += _hear(keeper, reader.feed(data))
        _trouble(rng, arm)
        keeper.tick()
        found["latches"] += keeper.phase is Phase.LATCHED is not before
        if not arm.faults:
            pieces[-1].append(arm.goal)
        if keeper.phase is Phase.LATCHED and rng.random() < 0.05:
            _go_on(arm, keeper, pieces)
    for piece in pieces:
        bad = violations(limits, spec.chain, np.array(piece), _PERIOD)
        found["violations"] += sum(bad.values())
        found.update({f"violations of {name}": count for name, count in bad.items() if count})
    found["targets sent"] += len(arm.sent)
    found["bytes ignored"] += reader.ignored
    return found


def _hear(keeper: Keeper, frames: Iterator[tuple[int, bytes]]) -> int:
    """What the guard does with frames; how many commands it accepted."""
    accepted = 0
    for kind, body in frames:
        request = unpack_request(kind, body)
        if request is not None and request.kind is Kind.HOLD:
            keeper.hold()
        elif request is not None and request.value is not None:
            before = keeper.rejected
            keeper.command(Command(request.seq, request.mode, request.value,
                                   request.sent + request.expires_in_s), request.sent)
            accepted += keeper.rejected == before
    return accepted


def _request(rng: np.random.Generator, now: float, seq: int, wish: np.ndarray, mode: Mode) -> bytes:
    """A frame, or what is none."""
    sent, lives, kind = now - rng.uniform(0, 0.01), 0.1, int(rng.integers(0, 24))
    some = rng.random(len(wish)) < 0.3
    if kind == 0:
        return rng.bytes(int(rng.integers(1, 500)))
    if kind == 1 and rng.random() < 0.1:
        return pack_request(Request(Kind.HOLD, seq))
    values = {2: np.where(some, np.nan, wish),
              3: np.where(some, rng.choice([np.inf, -np.inf]), wish),
              4: rng.normal(size=int(rng.integers(0, 16)))}
    times = {5: sent - rng.uniform(0, 1), 6: rng.choice([np.nan, np.inf, -np.inf, now + 100])}
    lengths = {7: rng.choice([np.nan, np.inf, -1.0, 0.0, 1e9])}
    seqs = {8: seq - int(rng.integers(0, 50))}  # repeated, or out of order
    whole = pack_request(Request(
        Kind.COMMAND, seqs.get(kind, seq), float(times.get(kind, sent)),
        float(lengths.get(kind, lives)), mode, values.get(kind, wish)))
    if kind == 9:  # a bit flipped on the way
        spoilt = bytearray(whole)
        spoilt[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        return bytes(spoilt)
    return whole


def _trouble(rng: np.random.Generator, arm: Puppet) -> None:
    chance = rng.random()
    if chance < 0.004:
        arm.fail = _FAULTS[int(rng.integers(len(_FAULTS)))]
    elif chance < 0.006:
        arm.stuck = not arm.stuck
    elif chance < 0.007:
        arm.q = arm.q + rng.normal(size=len(arm.q)) * 0.05  # pushed
    elif chance < 0.0075:
        arm.overload()
    elif chance < 0.2:
        arm.fail = lambda state: state


def _go_on(arm: Puppet, keeper: Keeper, pieces: list[list[np.ndarray]]) -> None:
    """A person mends the arm, clears its fault and unlatches, where that is allowed."""
    arm.stuck, arm.fail, fault = False, lambda state: state, bool(arm.faults)
    keeper.tick()
    if not fault:
        pieces[-1].append(arm.goal)
    try:
        if fault:
            keeper.clear_faults(_ACK)
            pieces.append([arm.goal])
        keeper.unlatch(_ACK)
    except ArmError:
        pass


# How long it takes.


def _latency(steps: int) -> list[tuple[str, str, str, float]]:
    """Each step: the policy acts and infers, the guard takes its command and ticks."""
    torch.set_num_threads(1)
    worlds = Worlds(Reach(), 1)
    agent = Pearl(Pearl.Config(), worlds.shapes, 0, torch.device("cpu"))
    tasks = Tasks(sample_tasks(Reach(), "test", 1), torch.arange(1), 1)
    belief = agent.prior(tasks.values, 1, Draws.of(0, EVALUATION, tasks.index, 1))
    worlds.set_tasks(tasks.values)
    obs = worlds.reset()
    clock, name = Clock(), "fr3"
    spec = spec_of(name, modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10, 200),
                   watchdog="device", senses=frozenset({"q", "dq"}))
    arm = Puppet(spec, np.array(ARMS[name].home), clock)
    keeper = Keeper(arm, Limits.of(spec, tool=0.1), period=_PERIOD, policy_period=_POLICY,
                    clock=clock)
    keeper.enable(_ACK)
    reader, spent = Reader(), np.zeros((2, steps, 3))
    for i in range(steps):
        clock.now += _PERIOD
        marks = [_now()]
        with torch.inference_mode():
            action = agent.act(obs, belief, None)
        marks.append(_now())
        step = worlds.step(action)
        marks.append(_now())
        with torch.inference_mode():
            belief = agent.infer(belief, step)
        marks.append(_now())
        obs = worlds.reset() if step.last[0] else step.next_obs
        value = np.resize(action[0].double().numpy(), len(spec.joints)) * 0.3
        marks.append(_now())
        request = Request(Kind.COMMAND, i + 1, clock.now, 0.1, value=value)
        _hear(keeper, reader.feed(pack_request(request)))
        keeper.tick()
        marks.append(_now())
        spent[:, i] = np.diff(np.array(marks), axis=0)[::2].T
    whole = 1e3 * spent.sum(2)
    guard = 1e3 * spent[:, :, 2]
    return [("latency", f"{what} of {part}, {clock_name}", "ms", float(np.quantile(values, share)))
            for clock_name, row in (("wall", 0), ("CPU time", 1))
            for part, values in (("act + infer + guard", whole[row]), ("the guard", guard[row]))
            for what, share in (("p99", 0.99), ("median", 0.5))]


def _now() -> tuple[float, float]:
    """Seconds by the clock, and of this thread on a CPU, which others on the machine do not
    lengthen."""
    return time.perf_counter(), time.thread_time()


if __name__ == "__main__":
    main()
