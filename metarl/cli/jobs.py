"""Does the jobs of a study: which one is free, what it still needs, and what it scored."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from metarl import api, scores, study
from metarl.cli.common import parse_groups, say
from metarl.cli.evaluate import described, file_name
from metarl.collect import Interrupted
from metarl.envs import FAMILIES
from metarl.envs.expert import Expert
from metarl.envs.family import SPLITS, Family, Split, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.errors import UserError, unknown
from metarl.evaluate import apart, evaluate
from metarl.plugins import allowing
from metarl.run import Run, environment, this_command, utc
from metarl.signals import EXIT_CODE
from metarl.study import SCRIPTED, Job, describe, trained_run
from metarl.train import acting_threads

_POLL = 0.5  # s between looks at a job's process
# Runs `metarl` with these words in a job's directory, which the open file locks; its exit code.
Call = Callable[[list[str], Path, TextIO], int]


@dataclass(frozen=True)
class Bench:
    """Does jobs, one at a time."""

    root: Path
    scores: Path
    device: str
    call: Call
    say: Callable[[str], None] = say
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        api.build_device(self.device)  # else every job would begin, and fail for this alone

    def work(self, jobs: Sequence[Job]) -> None:
        """Do every job that is neither done nor held by another process, each at most once."""
        study.work(self.root, jobs, self._do, self.stop)

    def _do(self, job: Job, lock: TextIO) -> None:
        folder = self.root / job.key
        self.say(f"begin {job.key}")
        (folder / "failed.json").unlink(missing_ok=True)
        try:
            describe(self.root, job)
            finished = self._judge_scripted(job, folder) if job.agent == SCRIPTED else (
                self._train(job, folder, lock) and self._judge(job, folder, lock))
            if finished:
                new = self._rows(job, folder)
                if not new:
                    raise UserError("there is no evaluation of it on "
                                    f"{' or '.join(job.splits) or 'any split'}: it scored nothing")
                scores.append(self.scores, new)
                Run(folder).write_json("done.json", {"time": utc(), "rows": new})
                self.say(f"done {job.key}: {len(new)} rows of scores in {self.scores}")
        except Interrupted:
            return
        except UserError as error:
            self._fail(folder, str(error))
        except Exception as error:  # whatever it is, the other jobs go on
            self._fail(folder, f"{type(error).__name__}: {error}")

    def _train(self, job: Job, folder: Path, lock: TextIO) -> bool:
        """Begin the job's run, or go on with it; whether it is done."""
        made = trained_run(folder)
        if made is None:
            words = ["train", job.agent, job.family, *job.flags, "--seed", str(job.seed),
                     "--device", self.device, "--runs", str(folder)]
        elif made.status["state"] == "done":
            return True
        else:
            words = ["resume", str(made.path), "--device", self.device, *_allowed(job)]
        return self._called(words, folder, lock)

    def _judge(self, job: Job, folder: Path, lock: TextIO) -> bool:
        """Evaluate the job's run on each split where that is not done yet."""
        made = trained_run(folder)
        assert made is not None
        family = api.family_of(made, _allowed(job)[1:])
        for split in _splits(job, family):
            if not _evaluation(made.path, job, family, split).exists():
                words = ["evaluate", str(made.path), "--split", split, "--episodes",
                         str(job.episodes), "--device", self.device, *_allowed(job)]
                words += ["--tasks", str(job.tasks)] if job.tasks else []
                if not self._called(words, folder, lock):
                    return False
        return True

    def _called(self, words: list[str], folder: Path, lock: TextIO) -> bool:
        """Whether a command came to its end. Raises UserError with its own words if it failed."""
        log = folder / "log.txt"
        said = log.stat().st_size if log.exists() else 0
        with log.open("a") as file:
            file.write(f"$ {shlex.join(['metarl', *words])}\n")
        code = self.call(words, folder, lock)
        if code == EXIT_CODE or (code and self.stop()):
            return False
        if code:
            raise UserError(_reason(log, said, code))
        return True

    def _judge_scripted(self, job: Job, folder: Path) -> bool:
        """Judge the family's scripted policy, here and now."""
        family = _scripted_family(job)
        for split in _splits(job, family):
            tasks = sample_tasks(family, split, job.tasks or api.task_count(family, {}, split))
            worlds = Worlds(family, len(tasks))
            expert = Expert(worlds)
            with acting_threads():
                result = evaluate(worlds, expert, tasks, job.episodes, 0, self.stop)
                parts = apart(worlds, expert, tasks, job.episodes, 0, self.stop)
            Run(folder).write_json(
                str(_evaluation(folder, job, family, split).relative_to(folder)),
                {"run": str(folder), "checkpoint": 0, "switch_every": 0,
                 **described(family, expert, split, 0, tasks, result, parts)},
            )
        return True

    def _rows(self, job: Job, folder: Path) -> list[dict[str, str]]:
        """The rows of scores of a job that is done."""
        made = trained_run(folder)
        last = made.metrics()[-1] if made else {"env_steps": 0, "wall_s": 0.0}
        about = made.environment if made else environment()
        origin = {
            "family": job.family, "agent": job.name, "seed": job.seed,
            "env_steps": int(last["env_steps"]), "wall_s": f"{last['wall_s']:.0f}",
            "machine": scores.machine(about), "commit": scores.commit(about),
            "command": shlex.join(this_command()),
        }
        where = made.path if made else folder
        family = api.family_of(made, _allowed(job)[1:]) if made else _scripted_family(job)
        files = [_evaluation(where, job, family, split) for split in _splits(job, family)]
        return [row for file in files
                for row in scores.rows(origin, Run(where).read_json(file.relative_to(where)))]

    def _fail(self, folder: Path, reason: str) -> None:
        reason = " ".join(reason.split())
        Run(folder).write_json("failed.json", {"time": utc(), "reason": reason})
        self.say(f"failed {folder.relative_to(self.root)}: {reason}")


def spawn(
    words: list[str], folder: Path, lock: TextIO, draw: Callable[[], None],
    stop: Callable[[], bool],
) -> int:
    """Run one verb in a process of its own, so that nothing in it can take the others along. It
    inherits the lock: should this process be killed, nobody else takes the job before it ends."""
    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "metarl", *words], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, pass_fds=(lock.fileno(),), start_new_session=True,
        )
        told = False
        while child.poll() is None:
            draw()
            if stop() and not told:
                child.terminate()
                told = True
            time.sleep(_POLL)
    return child.returncode


def _reason(log: Path, start: int, code: int) -> str:
    """Why a command failed: its own last word in the log."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    if code < 0:
        return f"killed by signal {-code}; see {log}"
    said = [line.removeprefix("metarl: ") for line in lines if line.startswith("metarl: ")]
    said = [line for line in said if not line.startswith("warning")]
    return said[-1] if said else f"exit code {code}; see {log}"


def _scripted_family(job: Job) -> Family:
    """The family of a job that trains nothing, with its options."""
    if job.family not in FAMILIES:
        raise unknown("family", job.family, FAMILIES)
    return parse_groups("bench", {"family": FAMILIES[job.family]()}, list(job.flags), "")["family"]


def _splits(job: Job, family: Family) -> list[Split]:
    """The splits to judge a job on: ood only where the family has any."""
    for name in job.splits:
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
    return [split for split in SPLITS if split in job.splits
            and (split != "ood" or any(p.ood for p in family.parameters))]


def _evaluation(where: Path, job: Job, family: Family, split: Split) -> Path:
    """The file of the evaluation of a job on a split, once there is one. Tasks change in it if they
    did in training."""
    steps, every, config = 0, 0, {}
    if (where / "status.json").exists():
        made = Run(where)
        steps, every, config = made.status["step"], api.switch_every(made), made.config
    tasks = job.tasks or api.task_count(family, config, split)
    return where / "evaluations" / file_name(split, steps, job.episodes, tasks, 0, every)


def _allowed(job: Job) -> list[str]:
    return allowing(job.agent, job.family)
