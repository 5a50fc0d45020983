"""`metarl robot identify RUN --arm …`: which arm this is, and whether training has met its like."""

from dataclasses import dataclass

from metarl.cli.common import parse, print_json, show, table
from metarl.cli.robot_link import ArmOptions, Chosen, choose, connected, numbers, refuse_arm
from metarl.envs.arms import ARMS
from metarl.errors import UserError, unknown
from metarl.robot.identify import FITTED, PARAMETERS, Fit, Motion, excite, fit
from metarl.robot.log import Recorder
from metarl.robot.worlds import Authority
from metarl.testing.body import Body, Flaws
from metarl.testing.direct import Direct

_DESCRIPTION = """Swing all joints of an arm a little around where they are, at 0.14 rad/s at most,
and fit payload, damping, friction, gains and backlash of the family's model to the motion with
mujoco.sysid.
Shows how well model and arm agree before and after, and where the arm lies among the tasks that
the policy was trained on. --rehearse does it in virtual time, on a twin; --option payload=2 gain=1
damping=1 friction=0.5 backlash=0.002 says which."""


@dataclass(frozen=True)
class Options(ArmOptions):
    """How to identify."""

    seconds: float = 8.0  # of motion
    rehearse: bool = False  # in a twin, in virtual time; no arm and no guard


def run_identify(argv: list[str]) -> int:
    """Excite, fit, print and keep."""
    options = parse("robot identify", Options, argv, _DESCRIPTION)
    if not 2.0 <= options.seconds <= 60.0:
        raise UserError("--seconds must lie between 2 and 60")
    if not (options.live or options.rehearse or options.arm == "twin"):
        raise UserError("a dry run has nothing to measure: add --live, or --rehearse")
    if options.rehearse:
        refuse_arm(options, "--rehearse")
        for name in (word.partition("=")[0] for word in options.option):
            if name not in PARAMETERS:
                raise unknown("option of a rehearsal", name, PARAMETERS)
    chosen = choose(options)
    with Recorder(chosen.folder / "log.mcap") as log:
        if options.rehearse:
            model, motion = _rehearsed(chosen, options)
        else:
            with connected("identify", chosen, options, Authority(0.1), log) as arm:
                model, motion = arm.link.spec.model, excite(arm.link, arm.worlds.clock,
                                                            options.seconds)
        found = fit(model, motion)
        _refuse(found)  # before it is kept: a report of this folder would tell of it
        place = found.place(chosen.family)
        log("identified", {**found.as_dict(), "place": place})
    if options.json:
        print_json({**found.as_dict(), "place": place, "folder": str(chosen.folder)})
    else:
        _report(found, place, chosen)
    return 0


def _rehearsed(chosen: Chosen, options: Options) -> tuple[str, Motion]:
    given = numbers("--option", options.option)
    own = getattr(chosen.family, "arm", "")
    arms = [arm for arm in ARMS.values() if arm.name == own]
    if not arms:
        raise UserError(f"{chosen.family.name} has no arm to rehearse with")
    link = Direct(Body(arms[0].name, Flaws(**given), options.seed))
    link.sleep(1.0)  # until it hangs as it will
    return arms[0].name, excite(link, link, options.seconds)


def _refuse(found: Fit) -> None:
    """Raise UserError where the fitted model is further from the arm than the nominal one."""
    if not found.helped:
        raise UserError(
            f"the fit did not help: measured and simulated angles differ by {1e3 * found.after:.2f}"
            f" mrad (rms) with the fitted model and by {1e3 * found.before:.2f} with the family's "
            "own, so that no parameters are told or kept; see that the arm is the one that the "
            "policy was trained for and touches nothing, and identify it anew, or for longer "
            "(--seconds)")


def _report(found: Fit, place: dict[str, str], chosen: Chosen) -> None:
    shown = table("parameter", "fitted", "± 95 %", "unit", f"in {chosen.family.name}'s training")
    for name, value in found.values.items():
        shown.add_row(name, f"{value:.3g}", f"{found.spread[name]:.2g}", FITTED[name][0],
                      place.get(name, "-"))
    show(shown)
    show(f"measured and simulated angles differ by {1e3 * found.before:.2f} mrad (rms) before the "
         f"fit, {1e3 * found.after:.2f} after\nlog:  {chosen.folder / 'log.mcap'}")
