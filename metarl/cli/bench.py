"""`metarl bench STUDY`: do the jobs of a study that nobody has done yet."""

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.live import Live

from metarl import api, scores
from metarl.agents import AGENTS
from metarl.cli.common import parse, print_json, say, show, table
from metarl.cli.jobs import Bench, spawn
from metarl.display import Screen, is_lively, number
from metarl.envs import FAMILIES
from metarl.envs.family import SPLITS
from metarl.errors import UserError, unknown
from metarl.machine import cores, keep_to, shares
from metarl.signals import EXIT_CODE, stop_on_signals
from metarl.study import JOBS, SCRIPTED, Job, Standing, load, standing, studies

_SCORES = Path("experiments") / "results" / "scores.csv"
_MARKS = {"waiting": "·", "interrupted": "‖", "failed": "✗", "done": "✓"}

_DESCRIPTION = """Train and judge all that a study lists: agents and baselines, on families, under
seeds. A study is a module in experiments/studies, a file path.py, or package.module, with a list of
jobs as its STUDY.

A job whose directory says that it is done is left alone; one that was stopped or killed goes on
where its run can be resumed. Ctrl-C saves and stops. Start it in several terminals, or on several
machines with one file system: each takes jobs that nobody else holds. A job that fails is shown
with its reason and does not stop the others; the next metarl bench tries it again. Most jobs make
little use of a second core: --jobs 2 does two at a time, each on cores of its own."""


@dataclass(frozen=True)
class Options:
    """Which jobs, and where."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """A study: its name, path.py or package.module."""
    families: tuple[str, ...] = ()  # only these of the study's families
    agents: tuple[str, ...] = ()  # only these of its labels, or all of an agent that is no label
    seeds: int | None = None  # how many of its seeds, from --first-seed on; all by default
    first_seed: int = 0  # the first of them, as where another machine does those before it
    jobs: int = 1  # done at a time, each on its share of the cores
    device: str = "cpu"  # torch device of the agents, as cpu or cuda
    root: Path = JOBS  # directory of all jobs
    # CSV that rows are appended to; experiments/results by default for its studies, else in --root
    scores: Path | None = None
    list: bool = False  # show the jobs and where they stand, and do nothing
    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Do them; 0 when all that could be done is done, 1 if some failed, 75 when stopped."""
    options = parse("bench", Options, argv, _DESCRIPTION)
    jobs = chosen(load(options.study), options)
    _check_names(jobs)
    if options.list:
        return _tell(options, jobs, 0)
    with stop_on_signals() as stop, _Table(options, jobs) as shown:
        bench = Bench(options.root, _file(options), options.device,
                      lambda words, folder, lock: spawn(words, folder, lock, shown.draw, stop),
                      shown.say, stop)
        _work(bench, jobs, options.jobs)
    if stop():
        say("stopped; the same command goes on")
    failed = any(standing(options.root, job).condition == "failed" for job in jobs)
    return _tell(options, jobs, EXIT_CODE if stop() else int(failed))


def _work(bench: Bench, jobs: Sequence[Job], at_once: int) -> None:
    """Do the jobs, so many at a time: each of as many threads takes one that nobody holds, and
    keeps it and what it starts to cores of its own."""
    def share(mine: list[int]) -> None:
        keep_to(mine)
        bench.work(jobs)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(share, shares(cores(), at_once)))


def chosen(jobs: Sequence[Job], options: Options) -> list[Job]:
    """The jobs that the options leave. Raises UserError for a name that the study lacks."""
    families = {job.family for job in jobs}
    agents = {name for job in jobs for name in (job.agent, job.name)}
    for kind, names, known in (("family", options.families, families),
                               ("agent", options.agents, agents)):
        for name in names:
            if name not in known:
                raise unknown(f"{kind} of {options.study}", name, known)
    if options.seeds is not None and options.seeds < 1:
        raise UserError("--seeds must be at least 1")
    seeds = sorted({job.seed for job in jobs})
    if options.first_seed > seeds[-1]:
        raise UserError(f"--first-seed must be at most {seeds[-1]}, the last seed of "
                        f"{options.study}")
    seeds = [seed for seed in seeds if seed >= options.first_seed][: options.seeds]
    if options.jobs < 1:
        raise UserError("--jobs must be at least 1")
    labels, words = {job.name for job in jobs}, {*options.agents}
    return [
        job for job in jobs
        if job.seed in seeds and (not options.families or job.family in options.families)
        # A word that is a label means that one, not every variant of the agent so called.
        and (not words or job.name in words or job.agent in words - labels)
    ]


def _check_names(jobs: Sequence[Job]) -> None:
    """Raise UserError for what no job could be done with, before the first one begins."""
    agents = [SCRIPTED, *api.known_names("metarl.agents", AGENTS)]
    families = api.known_names("metarl.families", FAMILIES)
    for job in jobs:
        named = (("agent", job.agent, agents), ("family", job.family, families),
                 *(("split", split, SPLITS) for split in job.splits))
        for kind, name, known in named:
            if name not in known and ":" not in name:  # with a colon: package.module:Name
                raise unknown(kind, name, known)


def _file(options: Options) -> Path:
    if options.scores is not None:
        return options.scores
    recorded = options.study in studies() and _SCORES.parent.is_dir()
    return _SCORES if recorded else options.root / "scores.csv"


class _Table:
    """The table of all jobs: redrawn on a terminal, else told line by line. A context manager."""

    def __init__(self, options: Options, jobs: Sequence[Job]) -> None:
        self._options, self._jobs = options, jobs
        self._console = Screen(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> "_Table":
        if is_lively(self._console):
            self._live.start()
            self._console.show_cursor(True)
            self.draw()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live.is_started:
            self.draw()
            self._live.stop()

    def draw(self) -> None:
        """Draw it as the directories are now."""
        if self._live.is_started:
            at = [standing(self._options.root, job) for job in self._jobs]
            self._live.update(_grid(self._jobs, at), refresh=True)

    def say(self, text: str) -> None:
        """What has just happened."""
        if self._live.is_started:
            self.draw()
        else:
            say(text)


def _grid(jobs: Sequence[Job], at: Sequence[Standing]) -> Any:
    """A row for each family and agent, a mark for each seed, and what it scored so far."""
    seeds = sorted({job.seed for job in jobs})
    shown = table("family", "agent", *(f"s{seed}" for seed in seeds), "return", "success")
    shown.columns[1].justify = "left"
    found = {(job.family, job.name, job.seed): s for job, s in zip(jobs, at, strict=True)}
    for family, name in dict.fromkeys((job.family, job.name) for job in jobs):
        mine = [found.get((family, name, seed)) for seed in seeds]
        marks = ["" if s is None else _MARKS.get(s.condition, f"{100 * s.share:.0f} %")
                 for s in mine]
        rows = [_last(s) for s in mine if s and s.rows]
        shown.add_row(family, name, *marks, _average(rows, "return"), _average(rows, "success"))
    # Short lines: a caption is folded at its table's width.
    shown.caption = ("return and success: on test tasks,\nexploiting after the last episode,\n"
                     "mean over finished seeds\n✓ done  ‖ interrupted  ✗ failed\n"
                     "· waiting  % running")
    return shown


def _last(at: Standing) -> dict[str, str]:
    """The row of scores on test tasks after the last episode; none if it was not judged there."""
    rows = [r for r in at.rows if r["split"] == "test" and r["phase"] == scores.EXPLOITING]
    return max(rows, key=lambda row: int(row["episode"]), default={})


def _average(rows: Sequence[dict[str, str]], column: str) -> str:
    values = [float(row[column]) for row in rows if row.get(column)]
    return number(sum(values) / len(values)) if values else ""


def _tell(options: Options, jobs: Sequence[Job], code: int) -> int:
    """Print where all jobs stand; the exit code."""
    at = [standing(options.root, job) for job in jobs]
    if options.json:
        print_json({"jobs": [
            {**asdict(job), "directory": str(options.root / job.key), "condition": s.condition,
             "share": s.share, "reason": s.reason, "rows": s.rows}
            for job, s in zip(jobs, at, strict=True)
        ]})
        return code
    show(_grid(jobs, at))
    done = sum(s.condition == "done" for s in at)
    show(f"{done} of {len(jobs)} jobs done, in {options.root}")
    for job, s in zip(jobs, at, strict=True):
        if s.condition == "failed":
            show(f"✗ {job.key}: {s.reason}")
    if done:
        root = [] if options.root == JOBS else ["--root", str(options.root)]
        show(f"next: {shlex.join(['metarl', 'report', options.study, *root])}")
    return code
