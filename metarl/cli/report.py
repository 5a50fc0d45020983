"""`metarl report RUN|STUDY|LOG …`: what runs, studies or arms did, as one self-contained page."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from metarl.cli.common import counted, parse, print_json, show, warn
from metarl.cli.labels import told_apart
from metarl.cli.sections import family_sections
from metarl.errors import UserError, unknown
from metarl.plugins import allowing
from metarl.report import Page, code, folded, paragraph
from metarl.run import DEFAULT_ROOT, Run, find, this_command
from metarl.scoreboard import FEW, Entry, Judged, read
from metarl.scores import commit, machine
from metarl.study import JOBS, another, load, studies, trained_run

if TYPE_CHECKING:
    from metarl.robot.diary import Diary

_DESCRIPTION = """Write what runs and studies did into one HTML page without any other file: how
well each agent does after k episodes in a new task, beside the baselines; how it learned; where it
fails; how it fares beyond what it was trained on; and what it believes. It reads what metarl
evaluate and metarl bench have kept, and computes no episode again. Of a session on an arm it shows
the verdict, and every episode: what was requested and what the guard applied, limits, delays,
rewards, faults."""
_LOG = "log.mcap"


@dataclass(frozen=True)
class Options:
    """What to report on."""

    what: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN|STUDY|LOG")]
    """Runs (a directory, part of its name, or `latest`), studies, of which unfinished jobs are
    left out, and logs of an arm (an .mcap file, or a folder of metarl robot)."""
    out: Path | None = None  # file to write; report.html inside the run or study by default
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    root: Path = JOBS  # directory of the jobs of studies
    json: bool = False  # print the results as JSON


def run(argv: list[str]) -> int:
    """Write the page."""
    options = parse("report", Options, argv, _DESCRIPTION)
    if not options.what:
        raise UserError("RUN or STUDY missing; metarl report latest shows the newest run")
    logs = {what: path for what in options.what if (path := _log(what)) is not None}
    groups = [_entries(what, options) for what in options.what if what not in logs]
    entries = _distinct([entry for group in groups for entry in group])
    diaries = _read(list(logs.values()))
    path = options.out or _place(options, entries, diaries)
    write(entries, path, diaries, _studies(options))
    if options.json:
        print_json({"runs": [str(entry.path) for entry in entries],
                    "logs": [str(log) for log in logs.values()], "report": str(path)})
    else:
        show(f"page: {path}")
    return 0


def _log(what: str) -> Path | None:
    """The arm's log that a word of the command line means; None where it means something else."""
    path = Path(what)
    if path.suffix == ".mcap":
        return path
    return path / _LOG if (path / _LOG).is_file() else None


def _read(logs: Sequence[Path]) -> list["Diary"]:
    """What logs tell. Raises DamagedFile, UserError."""
    if not logs:
        return []
    try:
        from metarl.robot.diary import read as read_log
    except ModuleNotFoundError as error:
        raise UserError(f"a log needs {error.name}; pip install 'metarl[robot]'") from None
    return [read_log(path) for path in logs]


def write(
    entries: Sequence[Entry], path: Path, diaries: Sequence["Diary"] = (),
    made: Sequence[str] = (),
) -> None:
    """Write the page of these agents and arms to `path`; `made` are the commands of the studies
    that they are of."""
    families = list(dict.fromkeys(entry.family for entry in entries))
    page = Page(_title(entries), _lead(entries)) if entries else Page(*_arm_title(diaries))
    if doubt := too_few(entries):
        page.section("How far to trust this", paragraph(doubt, "warn"))
    for family in families:
        mine = [entry for entry in entries if entry.family == family]
        if len(families) > 1:
            page.part(family)
        family_sections(page, mine)
    for diary in diaries:
        from metarl.cli.arm_sections import arm_sections

        if entries or len(diaries) > 1:
            page.part(_arm_title([diary])[0], paragraph(str(diary.path), "note"))
        arm_sections(page, diary)
    page.section("Make it again", paragraph("The page itself:"), code(shlex.join(this_command())),
                 *_commands(entries, made))
    page.write(path, _footer(entries))


def _entries(what: str, options: Options) -> list[Entry]:
    """The agents that a word of the command line means: a study's, or one run."""
    is_study = what in studies() or what.endswith(".py")
    if not is_study:
        try:
            return [_of_run(find(what, options.runs))]
        except UserError as error:
            if "." not in what or Path(what).exists():
                raise _neither(what, error) from None
    found = []
    for job in load(what):
        folder = options.root / job.key
        made = trained_run(folder)
        if reason := another(folder, job):
            warn(f"left out: {reason}")
        elif (folder / "done.json").exists():
            where = made.path if made else folder
            found.append(read(where, job.family, job.name, job.seed, made))
    if not found:
        raise UserError(f"no job of {what} is done in {options.root}; begin with metarl bench "
                        f"{what}")
    return found


def _neither(what: str, error: UserError) -> UserError:
    """The near match among studies, where no run fits."""
    if what == "latest" or not str(error).startswith(("unknown run", "no run")):
        return error
    hint = str(unknown("run or study", what, studies()))
    return UserError(hint) if "did you mean" in hint else error


def _of_run(found: Run) -> Entry:
    config = found.config
    return read(found.path, config["family"], config["agent"], int(config["seed"]), found)


def _distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Each directory once, under a label that it shares with its like alone."""
    return told_apart(list({entry.path.resolve(): entry for entry in entries}.values()))


def _place(options: Options, entries: Sequence[Entry], diaries: Sequence["Diary"]) -> Path:
    """Inside the run, or beside the log, if there is one alone; else beside the jobs, by name."""
    if len(entries) == 1:
        return entries[0].path / "report.html"
    if len(diaries) == 1 and not entries:
        log = diaries[0].path
        return log.parent / ("report.html" if log.name == _LOG else f"{log.stem}.html")
    names = "_".join(Path(what).name.removesuffix(".py") for what in options.what)
    return options.root / f"{names}.html"


def _arm_title(diaries: Sequence["Diary"]) -> tuple[str, str]:
    """Of a page, or a part of one, about sessions on an arm."""
    told = [(d.session.get("verb", "log"), d.session.get("model", "an arm")) for d in diaries]
    title = f"Arm: {', '.join(dict.fromkeys(f'{verb} on {model}' for verb, model in told))}"
    episodes = sum(len(diary.lived) for diary in diaries)
    return title, f"{episodes} episodes on the arm, and what its guard made of them. " \
        "This is no safety-rated system."


def _title(entries: Sequence[Entry]) -> str:
    if len(entries) == 1:
        return f"{entries[0].label} on {entries[0].family}, seed {entries[0].seed}"
    return f"Scoreboard: {', '.join(dict.fromkeys(entry.family for entry in entries))}"


def _lead(entries: Sequence[Entry]) -> str:
    agents = dict.fromkeys(entry.label for entry in entries)
    if len(entries) == 1:
        entry = entries[0]
        which = "into each of its tasks anew" if entry.familiar else \
            "into tasks that it had never met"
        when = f" at env step {min(entry.behind.values()):,}" if entry.behind else ""
        then = f"; put{when} {which}" if entry.judged or entry.switched else "; not judged yet"
        return f"{_training(entry)}{then}."
    families = dict.fromkeys(entry.family for entry in entries)
    named = ", ".join(agents)
    who = f"{len(agents)} agents and baselines ({named})" if len(agents) > 1 else named
    return (f"{who} on {', '.join(families)}, {len(entries)} runs in all. Each was trained, "
            f"frozen, and put into held-out tasks{_known(entries)}{_unless_judged(entries)}.")


def _training(entry: Entry) -> str:
    if entry.metrics:
        return f"Trained for {entry.env_steps:,} env steps, {entry.wall_s / 60:.1f} minutes"
    return "There are no metrics of its training" if entry.config else \
        "A policy of the family's own, told each task and never trained"


def _known(entries: Sequence[Entry]) -> str:
    known = dict.fromkeys(entry.family for entry in entries if entry.familiar)
    return f" (of {' and '.join(known)} there are so few that it knew them)" if known else ""


def _unless_judged(entries: Sequence[Entry]) -> str:
    lacking = sum(not (entry.judged or entry.switched) for entry in entries)
    return f", but for {lacking} not judged yet" if lacking else ""


def too_few(entries: Sequence[Entry]) -> str:
    """A warning where there are too few seeds to compare; of a scripted policy one is all."""
    trained = Counter((entry.family, entry.label) for entry in entries if entry.config is not None)
    seeds = min(trained.values(), default=FEW)
    if seeds >= FEW:
        return ""
    who = "This is a run of" if sum(trained.values()) == 1 else "Some agents here have"
    what = "With one seed, the intervals speak of other tasks alone, not of another training"
    more = ("; with two to four they do speak of another training, and are so wide that they "
            "rarely tell agents apart") if max(trained.values()) > 1 else ""
    return (f"{who} {counted(seeds, 'seed')}, fewer than {FEW}: a sanity check, not a comparison "
            f"of agents. {what}{more}.")


def _studies(options: Options) -> list[str]:
    """The commands that do the jobs of the studies asked for, as far as they are shown."""
    return [again(what, options.root) for what in options.what
            if what in studies() or what.endswith(".py")]


def again(what: str, root: Path) -> str:
    """The `metarl bench` that does the jobs of a study that are done in `root`; where these are not
    all of their agents on all of their families, more of them."""
    jobs = load(what)
    done = [job for job in jobs if (root / job.key / "done.json").exists()]
    words = ["metarl", "bench", what]
    for option, column in (("--families", "family"), ("--agents", "name")):
        chosen = dict.fromkeys(getattr(job, column) for job in done)
        if len(chosen) < len({getattr(job, column) for job in jobs}):
            words += [option, *chosen]
    first, last = min(job.seed for job in done), max(job.seed for job in done)
    words += ["--first-seed", str(first)] if first else []
    words += ["--seeds", str(last - first + 1)]
    return shlex.join(words + ([] if root == JOBS else ["--root", str(root)]))


def _commands(entries: Sequence[Entry], made: Sequence[str]) -> list[str]:
    """What trained and judged each run, folded away where there are many."""
    told = [paragraph("What it shows:"), code("\n".join(made))] if made else []
    runs = [entry for entry in entries if (entry.path / "command.txt").exists()]
    lines = [line for entry in runs for line in (
        (entry.path / "command.txt").read_text().strip(),
        *(_evaluate(entry.path, split, j) for split, j in entry.judged.items()))]
    if len(runs) == 1 and not made:
        told += [paragraph("What it shows:"), code("\n".join(lines))]
    elif runs:
        told += [folded(f"The commands that trained and judged the {counted(len(runs), 'run')}",
                        code("\n".join(lines)))]
    return told


def _evaluate(path: Path, split: str, judged: Judged) -> str:
    """What judges a run once more that was just trained anew."""
    config, root = Run(path).config, path.parents[2]  # root/family/agent/run
    words = ["metarl", "evaluate", "latest", *allowing(config["agent"], config["family"]),
             *([] if root == DEFAULT_ROOT else ["--runs", str(root)]),
             "--split", split, "--episodes", str(judged.episodes),
             "--tasks", str(len(judged.tasks)),
             *(["--seed", str(judged.seed)] if judged.seed else [])]
    return shlex.join(words)


def _footer(entries: Sequence[Entry]) -> str:
    environments: list[dict[str, Any]] = [
        Run(entry.path).environment for entry in entries if entry.config is not None]
    commits = dict.fromkeys(map(commit, environments))
    machines = dict.fromkeys(map(machine, environments))
    return (f"metarl {environments[0]['metarl'] if environments else ''}; commits "
            f"{', '.join(commits)}; trained on {'; '.join(machines)}") if environments else ""
