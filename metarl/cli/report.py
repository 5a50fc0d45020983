"""`metarl report RUN`: what a run did, as one self-contained page."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from metarl import report
from metarl.cli.common import number, parse, print_json, show
from metarl.run import DEFAULT_ROOT, Run, find

_DESCRIPTION = """Write what a run did into one HTML page without any other file: the learning
curve, the k-shot curves of the evaluations that metarl evaluate has made, and the command."""


@dataclass(frozen=True)
class Options:
    """What to report on."""

    run: tyro.conf.Positional[str]  # a run: its directory, part of its name, or `latest`
    out: Path | None = None  # file to write; report.html inside the run by default
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Write the page."""
    options = parse("report", Options, argv, _DESCRIPTION)
    found = find(options.run, options.runs)
    path = options.out or found.path / "report.html"
    write(found, path)
    if options.json:
        print_json({"run": str(found.path), "report": str(path)})
    else:
        show(f"page: {path}")
    return 0


def write(run: Run, path: Path) -> None:
    """Write the page of a run to `path`."""
    config, status, metrics = run.config, run.status, run.metrics()
    wall = metrics[-1]["wall_s"] if metrics else 0.0
    page = report.Page(
        f"{config['agent']} on {config['family']}, seed {config['seed']}",
        f"{status['state']} at env step {status['step']:,}, after {wall / 60:.1f} minutes. One "
        "seed: a sanity check, not a comparison of agents.",
    )
    if any(m.get("eval/return_pre") is not None for m in metrics):
        page.section("Learning", report.picture(
            report.learning_curve(metrics, {}), "learning curve"))
    for file in sorted((run.path / "evaluations").glob("*.json")):
        document = json.loads(file.read_text())
        returns = np.array(document["returns"], float)
        rows = [[str(k + 1), number(float(np.nanmean(r)))] for k, r in enumerate(returns)]
        page.section(
            f"Adaptation on {returns.shape[1]} {document['split']} tasks, checkpoint at env step "
            f"{document['checkpoint']:,}",
            report.table(["episode", "mean return"], rows),
            report.picture(report.shot_curve({config["agent"]: returns}, {}, "return"),
                           "k-shot curve"),
        )
    page.section("Configuration", report.code(json.dumps(config, indent=2)))
    page.section("Make it again", report.code((run.path / "command.txt").read_text()))
    page.write(path)
