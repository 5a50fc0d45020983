"""What the verbs of `metarl robot` share: options, the way to the arm, and the person beside it."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from metarl import __version__, api
from metarl.cli.common import say, show, table, warn
from metarl.envs.family import Family, parse_task
from metarl.errors import UserError
from metarl.plugins import imported
from metarl.policy import Policy, is_bundle
from metarl.robot.arm import ArmError, OperatorAck
from metarl.robot.client import GuardLink, start_guard
from metarl.robot.clock import HOST
from metarl.robot.latency import Latency, measure
from metarl.robot.link import Link, Phase
from metarl.robot.log import Recorder
from metarl.robot.preflight import Item, look, look_at_delays, refuse_failures
from metarl.robot.registry import Option, arm_class
from metarl.robot.rollout import digest
from metarl.robot.session import check_rows, in_charge, is_session, own_belief
from metarl.robot.worlds import ArmWorlds, Authority, NeedsHuman, Perception
from metarl.run import DEFAULT_ROOT, find, utc

STATEMENT = "workspace clear, hardware stop in reach"
_SIMULATED = OperatorAck("nobody", "the twin is a simulation")
_DRY = OperatorAck("nobody", "a dry run: nothing is sent to the arm")


@dataclass(frozen=True)
class ArmOptions:
    """Options of the verbs that let a policy look at an arm."""

    policy: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_BUNDLE")]
    """A run, a bundle, or the folder of a session, whose policy in charge is taken."""
    task: tuple[str, ...] = ()  # name=value ...: what rewards are told by; agents never see it
    arm: str = "twin"  # a name of metarl robot list, or package.module:Name
    host: str = ""  # address or port of the arm
    option: tuple[str, ...] = ()  # name=value ... of the arm's adapter
    live: bool = False  # send to the arm; without it, a dry run
    operator: str = ""  # who stands beside the arm, and says: workspace clear, stop in reach
    limit: tuple[str, ...] = ()  # name=value ... of the guard, tighter than the arm's own
    perception: str = ""  # package.module:function that makes a perception of objects
    folder: Path | None = None  # directory of logs and results; beside the policy by default
    seed: int = 0  # of the starts and the exploration
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    plugin: tuple[str, ...] = ()  # package.module:Name that the policy may import
    json: bool = False  # print the results as JSON


@dataclass(frozen=True)
class Chosen:
    """A policy and what it is to do."""

    path: Path
    policy: Policy
    family: Family
    task: torch.Tensor  # (1, D)
    folder: Path  # of this session

    @property
    def history(self) -> int:
        """How many past actions the policy sees."""
        return api.sim2real(self.policy.about).history


@dataclass(frozen=True)
class Connected:
    """An arm that may be asked for motion."""

    link: GuardLink
    worlds: ArmWorlds
    latency: Latency
    items: list[Item]


def refuse_arm(options: ArmOptions, flag: str) -> None:
    """Raise UserError where what this flag lets be played on a twin is to be done on an arm."""
    named = [f"--{name}" for name, given in (
        ("live", options.live), ("arm", options.arm != "twin"), ("host", options.host)) if given]
    if named:
        raise UserError(f"{flag} is played on a twin of the family's arm, in virtual time, without "
                        f"an arm; leave {' and '.join(named)} out, or leave out {flag}")


def choose(options: ArmOptions) -> Chosen:
    """Load the policy and name the session's folder. Nothing is made or connected."""
    path, lived_in = Path(options.policy), list[float]()  # the task of the session
    if is_session(path):
        path, active, lived_in = in_charge(path)
        say(f"in charge: {active}, {path}")
    if not is_bundle(path):
        path = find(str(path), options.runs).path
    policy = api.load(path, "cpu", options.plugin)
    check_rows(policy)
    family = api.build_family(policy.about["family"], policy.about["options"], options.plugin,
                              policy.files)
    names = [p.name for p in family.parameters]
    own = dict(zip(names, lived_in, strict=False)) or policy.about.get("task", {})
    task = parse_task(family, [*_unsaid(own, options.task), *options.task], warn)[None]
    # A bundle is sealed: what is told of it lies beside it.
    beside = path.with_name(f"{path.name}_arm") if is_bundle(path) else path / "arm"
    folder = options.folder or beside / utc()
    if folder.exists():
        raise UserError(f"{folder} exists; choose another place with --folder")
    return Chosen(path, policy, family, task, folder)


def opening(
    verb: str, chosen: Chosen, options: ArmOptions, worlds: ArmWorlds, arm: str, live: bool
) -> dict[str, Any]:
    """What a log tells of a session before anything moves."""
    spec, about = worlds.link.spec, chosen.policy.about
    limits = getattr(worlds.link, "limits", None)
    agent, belief = chosen.policy.agent, own_belief(chosen.policy, worlds, options.seed)
    return {
        "verb": verb, "utc": utc(), "metarl": __version__, "arm": arm, "live": live,
        "driver": driver_version(arm), "model": spec.model, "joints": spec.joints,
        "spec": spec.digest(), "q_min": spec.q_min, "q_max": spec.q_max,
        "limits": None if limits is None else asdict(limits),
        "speed": worlds.authority.speed, "blend": worlds.authority.blend,
        "family": chosen.family.name, "agent": about["agent"], "policy": str(chosen.path),
        "digest": digest(agent, belief), "parent": about.get("parent"), "seed": options.seed,
        "task": chosen.task[0].tolist(), "words": {
            p.name: p.words(value) for p, value in zip(
                chosen.family.parameters, chosen.task[0].tolist(), strict=True)}}


def driver_version(arm: str) -> str:
    """The library that an arm is driven by, and its version; of a twin, the physics."""
    if arm in ("rehearsal", "twin"):
        return f"mujoco {metadata.version('mujoco')}"
    vendor = arm_class(arm).vendor
    owners = metadata.packages_distributions().get(vendor[0], ()) if vendor else ("metarl",)
    return ", ".join(f"{name} {metadata.version(name)}" for name in dict.fromkeys(owners))


@contextmanager
def connected(
    verb: str, chosen: Chosen, options: ArmOptions, authority: Authority, log: Recorder,
    enable: bool = True,
) -> Iterator[Connected]:
    """The arm behind a guard, looked at, on and holding, unless it is not to be enabled; at the
    end it holds, and the guard leaves it. Raises ArmError where the pre-flight look finds what
    must not be."""
    family, ack, live = chosen.family, acknowledge(options), options.live or options.arm == "twin"
    guard_log, perception = chosen.folder / "guard.bin", perceive(options.perception)
    with ExitStack() as stack:
        guard = stack.enter_context(start_guard(
            options.arm, adapter_options(options, family), live=live,
            limits=numbers("--limit", options.limit), policy_hz=1 / family.control_step,
            log=guard_log))
        stack.callback(log.add_guard, guard_log)
        link = guard.link()
        stack.callback(link.close)
        worlds = ArmWorlds(
            family, link, authority, HOST, perception,
            lambda needed: ask(needed, link, ack), log, history=chosen.history)
        worlds.set_tasks(chosen.task)
        state = worlds.report.state
        items = look(family, chosen.task, link.spec, state, link.limits, link.unmonitored,
                     chosen.folder)
        items.append(Item("operator", f"{ack.operator}: {ack.statement}",
                          "ok" if live else "warn"))
        _tell(items, options.json)
        latency = Latency((), ())
        if enable:
            link.enable(ack)
            latency = measure(link, HOST)
            delays = look_at_delays(latency, family, chosen.policy.about.get("sim2real", {}))
            _tell([delays], options.json)
            items.append(delays)
        log("session", {
            **opening(verb, chosen, options, worlds, options.arm, live),
            "latency": latency.as_dict(), "operator": ack.operator,
            "preflight": [vars(item) for item in items]})
        yield Connected(link, worlds, latency, items)


def acknowledge(options: ArmOptions) -> OperatorAck:
    """A person's word. Raises UserError where an arm would move and nobody gives it."""
    if options.arm == "twin":
        return _SIMULATED
    if not options.live:
        return _DRY
    if options.operator:
        return OperatorAck(options.operator, STATEMENT)
    if not sys.stdin.isatty():
        raise UserError("--live moves an arm: say who stands beside it with --operator NAME, who "
                        f"states: {STATEMENT}")
    name = input("who stands beside the arm? ")
    if input(f"{STATEMENT}? type yes: ").strip() != "yes":
        raise UserError("not acknowledged; nothing was moved")
    return OperatorAck(name, STATEMENT)


def ask(needed: NeedsHuman, link: Link, ack: OperatorAck) -> bool:
    """Let the person beside the arm do what is needed; whether they did. Nobody is beside a twin:
    it goes on by itself where it had latched."""
    if ack is not _SIMULATED:
        if not sys.stdin.isatty():
            return False
        say(needed.reason)
        if input("press Enter when that is done, or q and Enter to stop: ").strip():
            return False
    try:
        report = link.report(1.0)
        if ack is _SIMULATED and report.phase is not Phase.LATCHED and not report.state.faults:
            return False  # what is needed is a hand, as to put an object back: nobody has one
        if report.state.faults:
            link.clear_faults(ack)
        link.unlatch(ack)
    except ArmError as problem:
        say(str(problem))  # not latched, or not yet to be let go on: the next look tells
    return True


def adapter_options(options: ArmOptions, family: Family) -> dict[str, Option]:
    """What the adapter is made from."""
    made = words_to_options(options.option)
    names = inspect.signature(arm_class(options.arm)).parameters
    if options.host:
        place = next((name for name in ("host", "port", "address") if name in names), None)
        if place is None:
            raise UserError(f"arm {options.arm} has no address; leave --host out")
        made.setdefault(place, options.host)
    arm = getattr(family, "arm", None)
    if "arm" in names and isinstance(arm, str):
        made.setdefault("arm", arm)
    return made


def words_to_options(words: Sequence[str]) -> dict[str, Option]:
    """Words like `payload=1.5` as a mapping to numbers, booleans and texts."""
    found: dict[str, Option] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not name=value")
        if text.lower() in ("true", "false"):
            found[name] = text.lower() == "true"
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        found[name] = text if math.isnan(value) else value  # `nan` is no number, but a twin's fault
    return found


def numbers(flag: str, words: Sequence[str]) -> dict[str, float]:
    """Words like `speed=0.2` as a mapping to numbers. Raises UserError where one is none."""
    found: dict[str, float] = {}
    for name, value in words_to_options(words).items():
        if isinstance(value, bool | str):
            raise UserError(f"{flag} {name}={value} is not a number")
        found[name] = value
    return found


def perceive(place: str) -> Perception | None:
    """The perception that `package.module:function` makes; None without one."""
    if not place:
        return None
    make: Callable[[], Perception] = imported("perception", place)
    return make()


def _unsaid(own: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """The words of a policy's own task that are not said otherwise."""
    said = {word.partition("=")[0] for word in words}
    return [f"{name}={value!r}" for name, value in own.items() if name not in said]


def _tell(items: list[Item], quietly: bool) -> None:
    """Print what was found, unless `quietly`; raises ArmError where it fails."""
    if quietly:
        return refuse_failures(items)
    shown = table("pre-flight", "found", "")
    shown.columns[1].justify = "left"
    for item in items:
        shown.add_row(item.name, item.found, item.mark)
    show(shown)
    refuse_failures(items)
