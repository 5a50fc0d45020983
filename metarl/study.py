"""Studies: lists of jobs, each with a directory that says whether it is done.

    <root>/<family>/<label>/seed_<n>/
        job.json        what it is, every default and its preset written out
        .lock           held by the process that works on it, and by what that has started
        log.txt         what was said
        <family>/<agent>/<run>/      the run that it trained, with its evaluations
        evaluations/    those of a scripted policy, which trains nothing
        failed.json     why it failed, until it is tried again
        done.json       its rows of scores; there is none before it is done

Two studies that hold the same job share its directory: it is done once.
"""

import fcntl
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TextIO

from metarl.documents import read_json, write_json
from metarl.errors import UserError, unknown
from metarl.plugins import module_of
from metarl.presets import preset
from metarl.run import Run

JOBS = Path("runs") / "studies"  # the root of all jobs, by default
SCRIPTED = "scripted"  # in place of an agent: the family's scripted policy, which is told the task
Condition = Literal["waiting", "running", "interrupted", "failed", "done"]
_TRIES = 5  # to take a lock: who only looks whether it is held holds it for an instant


@dataclass(frozen=True)
class Job:
    """One agent, or baseline, trained on one family under one seed, and judged."""

    agent: str
    family: str
    seed: int
    flags: tuple[str, ...] = ()  # more words of its `metarl train`
    label: str = ""  # what it is called in tables; the agent's name by default
    episodes: int = 3  # of adaptation when judged, K
    splits: tuple[str, ...] = ("test", "ood")  # to judge it on; ood where the family has any
    tasks: int | None = None  # of each split; the family's own number by default

    def __post_init__(self) -> None:
        for name in ("flags", "splits"):
            if isinstance(given := getattr(self, name), str):  # else its letters were words
                raise UserError(f"{name} of a job are words apart, as in {(*given.split(),)}")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.label or self.agent

    @property
    def key(self) -> str:
        """Its directory below the root of all jobs."""
        plain = (text.rpartition(":")[2].replace("/", "_") for text in (self.family, self.name))
        return "/".join((*plain, f"seed_{self.seed}"))


def grid(
    agents: Sequence[str], families: Sequence[str], seeds: Sequence[int] = range(10),
    **more: Any,
) -> list[Job]:
    """A job for each agent, family and seed, all of one seed before those of the next, so that a
    study that is stopped early compares like with like. A scripted policy has one seed."""
    for name, given in (("agents", agents), ("families", families)):
        if isinstance(given, str):
            raise UserError(f"{name} of a grid are a list, as in [{given!r}]")
    return [
        Job(agent, family, seed, **more)
        for seed in seeds for family in families for agent in agents
        if agent != SCRIPTED or seed == seeds[0]
    ]


@dataclass(frozen=True)
class Standing:
    """Where a job stands."""

    condition: Condition
    share: float = 0.0  # of its training that is behind it
    reason: str = ""  # why it failed
    rows: tuple[dict[str, str], ...] = ()  # its rows of scores, once it is done


def another(folder: Path, job: Job) -> str:
    """Why a directory is not this job's but that of another one so called; "" where it is not."""
    if not (folder / "job.json").exists():
        return ""
    wanted, known = json.loads(json.dumps(_described(job))), read_json(folder / "job.json")
    known = {"preset": wanted["preset"]} | known  # those of before did not keep it
    other = sorted(name for name in wanted if wanted[name] != known.get(name))
    return "" if not other else (f"{folder} belongs to a job with other {' and '.join(other)}; "
                                 "give this one a label of its own, or another --root")


def standing(root: Path, job: Job) -> Standing:
    """Where a job stands, by what its directory says."""
    folder = root / job.key
    if reason := another(folder, job):
        return Standing("failed", reason=reason)
    if (folder / "done.json").is_file():
        return Standing("done", 1.0, rows=tuple(read_json(folder / "done.json")["rows"]))
    run = trained_run(folder)
    share = 0.0 if run is None else run.status["step"] / int(run.config["steps"])
    if is_held(folder):
        return Standing("running", min(share, 1.0))
    if (folder / "failed.json").is_file():
        return Standing("failed", min(share, 1.0), read_json(folder / "failed.json")["reason"])
    return Standing("waiting" if run is None else "interrupted", min(share, 1.0))


def trained_run(folder: Path) -> Run | None:
    """The run that a job has begun, if any."""
    # status.json is the last file that a new run writes: one without it is not begun yet.
    found = sorted(folder.glob("*/*/*/status.json"))
    return Run(found[-1].parent) if found else None


def describe(root: Path, job: Job) -> None:
    """Write what a job is into its directory. Raises UserError where that is another one's."""
    folder = root / job.key
    if reason := another(folder, job):
        raise UserError(reason)
    if not (folder / "job.json").exists():
        write_json(folder / "job.json", _described(job))


def _described(job: Job) -> dict[str, Any]:
    return asdict(job) | {"preset": preset(job.agent, job.family)}


@contextmanager
def claim(folder: Path) -> Iterator[TextIO | None]:
    """Hold a job's directory: an open file that is its lock, or None if another process holds it.

    The kernel frees the lock when the last process that has inherited the file ends, however.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        for attempt in range(_TRIES):
            if _lock(file):
                yield file
                return
            if attempt + 1 < _TRIES:
                time.sleep(0.02)
        yield None


def is_held(folder: Path) -> bool:
    """Whether a process works on the job of this directory."""
    try:
        with (folder / ".lock").open() as file:
            return not _lock(file, fcntl.LOCK_SH)  # who looks holds nobody else off
    except FileNotFoundError:
        return False


def work(
    root: Path, jobs: Sequence[Job], do: Callable[[Job, TextIO], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do every job that is neither done nor held by another process, under its lock, each at most
    once; and none that another process has seen fail in the meantime."""
    began, tried = time.time(), set[str]()
    while not stop():
        job = next((j for j in jobs if j.key not in tried and _is_open(root, j, began)), None)
        if job is None:
            return
        with claim(root / job.key) as lock:
            # Another process may have taken it, and even have done it, since we looked.
            if lock is not None and _is_open(root, job, began, ours=True):
                tried.add(job.key)
                do(job, lock)


def _is_open(root: Path, job: Job, began: float, ours: bool = False) -> bool:
    """Whether a job is to be done; `ours`: it is we who hold its lock."""
    folder = root / job.key
    if (folder / "done.json").exists() or (not ours and is_held(folder)) or another(folder, job):
        return False
    failed = folder / "failed.json"
    return not failed.exists() or failed.stat().st_mtime < began


def load(name: str) -> list[Job]:
    """The jobs of the study of this name: a module in experiments/studies, a file `path.py`, or
    `package.module`, with a list of jobs as its STUDY."""
    known = studies()
    if name.endswith(".py"):
        module = _from_file(Path(name))
    elif name in known:
        module = _from_file(known[name])
    elif "." in name:
        module = _from_package(name)
    else:
        raise unknown("study", name, known) if known else UserError(
            f"unknown study {name!r}: no experiments/studies here; name a file, as in study.py")
    jobs = getattr(module, "STUDY", None)
    if not isinstance(jobs, list) or not jobs or not all(isinstance(job, Job) for job in jobs):
        raise UserError(f"{name} is no study: it needs STUDY, a list of metarl.study.Job")
    if len({job.key for job in jobs}) < len(jobs):
        raise UserError(f"{name} has two jobs of one name, family and seed; give one a label")
    return jobs


def studies() -> dict[str, Path]:
    """The studies of the working directory and of metarl's own checkout, by name."""
    places = (Path(__file__).resolve().parents[1], Path.cwd())
    return {
        file.stem: file
        for place in places for file in sorted((place / "experiments" / "studies").glob("*.py"))
        if file.stem != "__init__"
    }


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no study {path}; known by name: {', '.join(studies())}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # as its name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    return module


def _from_package(name: str) -> ModuleType:
    try:
        return module_of(name)
    except ModuleNotFoundError as error:
        raise UserError(f"study {name!r} cannot be imported: {error}") from None


def _lock(file: TextIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
