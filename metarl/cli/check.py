"""`metarl check FAMILY`: does a family keep the contract that agents rely on?"""

import os
import shlex
from dataclasses import dataclass

from metarl.cli.common import (
    FamilyOptions,
    build_family,
    explain_family,
    parse,
    print_json,
    show,
    show_verdicts,
    split_family,
)
from metarl.errors import UserError
from metarl.video import choose_backend

_DESCRIPTION = """Run the contract of families on one, your own say, and explain what it breaks. The
family's own options are set as for training, say --family.arm ur5e; metarl check FAMILY --help
lists them."""


@dataclass(frozen=True)
class Options(FamilyOptions):
    """What to check."""

    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Check and print; exit code 1 where something is broken."""
    rest, own = split_family(argv)
    explain_family("check", Options, rest, _DESCRIPTION)
    options = parse("check", Options, rest, _DESCRIPTION)
    # MuJoCo chooses its OpenGL while it is imported, hence the imports below.
    try:
        choose_backend()
    except UserError:
        os.environ["MUJOCO_GL"] = "disable"  # then a picture fails, where it could end the process
    from metarl import api
    from metarl.envs.contract import verdicts

    chosen = api.choose_family(options.family, options.mjcf, options.vary)
    checked = verdicts(build_family(f"check {chosen.words}", chosen.cls, own))
    found = list(checked) if options.json else show_verdicts(checked)
    broken = [verdict for verdict in found if verdict.problem]
    if options.json:
        print_json({"family": chosen.name, "sound": not broken,
                    "checks": [vars(verdict) for verdict in found]})
    else:
        show(f"{chosen.name}: {len(broken)} of {len(found)} checks fail" if broken
             else f"{chosen.name} keeps its contract; next: "
             + shlex.join(["metarl", "train", "pearl", *shlex.split(chosen.words), *own]))
    return 1 if broken else 0
