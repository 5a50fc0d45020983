"""`metarl robot VERB …`: everything that has to do with a real arm, a module per verb or two."""

import importlib

from metarl.errors import unknown

# verb -> (module of metarl.cli, what it does in one line)
VERBS = {
    "list": ("robot_arms", "show the arms that can be named, and what each is driven by"),
    "check": ("robot_arms", "run the conformance suite on an adapter of your own, on its double"),
    "identify": ("robot_identify", "excite the arm a little, and fit the family's model to it"),
    "shadow": ("robot_run", "watch what a policy would do; nothing is sent"),
    "run": ("robot_run", "let a policy act, with as much authority as --stage gives it"),
    "adapt": ("robot_adapt", "adapt in a few episodes; keep it only where that is shown to help"),
    "log": ("robot_arms", "sum up a log of a session"),
}
_USAGE = """usage: metarl robot VERB [options]

A real arm behind a guard. Not a safety-rated system: keep the hardware stop in reach.
Without --live nothing is sent to an arm: a dry run.

verbs:
{verbs}

metarl robot VERB --help explains a verb.
"""


def run(argv: list[str]) -> int:
    """Do what the verb says; its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {verb:<12}{line}" for verb, (_, line) in VERBS.items())
        print(_USAGE.format(verbs=lines), end="")
        return 0 if argv else 2
    verb = argv[0]
    if verb not in VERBS:
        raise unknown("verb of metarl robot", verb, VERBS)
    module = importlib.import_module(f"metarl.cli.{VERBS[verb][0]}")
    return getattr(module, f"run_{verb}")(argv[1:])
