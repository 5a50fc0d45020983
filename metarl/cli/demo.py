"""`metarl demo`: meta-train an arm, adapt it to variants it has never met, and show it all."""

from dataclasses import dataclass
from pathlib import Path

from metarl.cli.common import parse
from metarl.errors import UserError
from metarl.video import choose_backend

_DESCRIPTION = """From nothing to an arm that adapts: meta-train PEARL on the reach family for a few
minutes, adapt it to three held-out variants and to a payload beyond its training range, and write
a page with curves and films."""


@dataclass(frozen=True)
class Options:
    """How to run the demo."""

    out: Path = Path("demo")  # directory for the run and the page
    # Env steps to train for; the preset has 690,000, of which the last two thirds bring the last
    # millimetres.
    steps: int = 240_000
    seed: int = 0  # of all random numbers
    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Choose OpenGL, then do it all; the exit code."""
    options = parse("demo", Options, argv, _DESCRIPTION)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out} is no directory; choose another place with --out")
    problem = ""
    try:
        choose_backend()
    except UserError as error:
        problem = str(error)
    # MuJoCo chooses its OpenGL while it is imported, hence this import after the choice.
    from metarl.cli.showcase import perform

    return perform(options, problem)
