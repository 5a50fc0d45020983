"""A run directory: everything about one training run, in files that a person can read.

    runs/<family>/<agent>/<utc>_s<seed>_<hash6>/
        config.json     what was asked for, every default written out
        command.txt     the command that made it
        env.json        versions, machine, commit
        status.json     running, done, interrupted or failed, and the env steps so far
        log.txt         what was said, with the time
        family/         the MJCF and YAML of a family that was described, hashed in config.json
        metrics.jsonl   the truth: one JSON object per iteration
        tb/             the same for TensorBoard
        checkpoints/    see metarl.checkpoint
"""

import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import metarl
from metarl.documents import read_json, without_nan, write_json
from metarl.errors import DamagedFile, UserError, unknown
from metarl.machine import cores, processor
from metarl.plugins import allowing

DEFAULT_ROOT = Path("runs")
State = Literal["running", "done", "interrupted", "failed"]
_ASKED = ("agent", "family", "seed", "steps", "device", "config", "options", "shapes")
_PACKAGES = ("gymnasium", "mujoco", "numpy", "safetensors", "stable-baselines3", "torch")


@dataclass(frozen=True)
class Run:
    """One run directory, to be read. To train in it, open a `Writer`."""

    path: Path

    @classmethod
    def create(
        cls, root: Path, config: Mapping[str, Any], command: list[str],
        files: Mapping[str, bytes] | None = None,
    ) -> "Run":
        """Make the directory of a new run of `config`, which names its `agent`, `family` and
        `seed`; `files` describe the family, if it has no class. Raises UserError rather than write
        into a directory that exists."""
        if files:
            config = {**config, "files": {name: _sha256(data) for name, data in files.items()}}
        text = json.dumps(config, indent=2) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        folder = root / _plain(config["family"]) / _plain(config["agent"])
        path = folder / f"{utc()}_s{config['seed']}_{digest}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise UserError(
                f"{path} exists: the same run began in this very second; nothing was overwritten"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot make {path}: {error.strerror}; choose another place with --runs"
            ) from None
        run = cls(path)
        try:
            (path / "config.json").write_text(text)
            (path / "command.txt").write_text(shlex.join(command) + "\n")
            run.write_json("env.json", environment())
            for name, data in (files or {}).items():
                (path / "family").mkdir(exist_ok=True)
                (path / "family" / name).write_bytes(data)
            run.set_status("running", 0)
        except OSError:  # half a run, on a full disk say, would be `latest`, and damaged
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def words(self) -> str:
        """What a command line calls it, with what that must allow it to import."""
        config = self.config
        return shlex.join([str(self.path), *allowing(config["agent"], config["family"])])

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for. Raises DamagedFile."""
        return read_json(self.path / "config.json", *_ASKED)

    @property
    def files(self) -> dict[str, bytes]:
        """The files that describe its family, as they were when it began; none where the family
        has a class. Raises DamagedFile."""
        found = {}
        for name, digest in self.config.get("files", {}).items():
            file = self.path / "family" / name
            if Path(name).name != name or not file.is_file():
                raise DamagedFile(f"{file} is missing")
            found[name] = file.read_bytes()
            if _sha256(found[name]) != digest:
                raise DamagedFile(f"{file} is not what the run began with: its SHA-256 differs; "
                                  "begin a new run with the new one")
        return found

    @property
    def environment(self) -> dict[str, Any]:
        """The versions and the machine that it began on. Raises DamagedFile."""
        return read_json(self.path / "env.json", "metarl", "cores", "cpu", "gpu")

    @property
    def status(self) -> dict[str, Any]:
        """`state`, `step` and `time` of the last change. Raises DamagedFile."""
        return read_json(self.path / "status.json", "state", "step", "time")

    def set_status(self, state: State, step: int, **more: Any) -> None:
        """Replace the status at once: a reader sees the old one or the new one."""
        document = {"state": state, "step": step, "time": utc(), "pid": os.getpid(), **more}
        self.write_json("status.json", document)

    def write_json(self, name: str, document: Mapping[str, Any] | list[Any]) -> Path:
        """Write one JSON file of the run, whole or not at all; its path."""
        return write_json(self.path / name, document)

    def read_json(self, name: str | Path) -> dict[str, Any]:
        """What one JSON file of the run holds. Raises DamagedFile."""
        return read_json(self.path / name)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl, but one torn by a crash at its end; NaN was written as null.
        Raises DamagedFile."""
        return [line for line, _ in _complete_lines(self.path / "metrics.jsonl")]


class Writer:
    """The one process that may write to a run: log, metrics and TensorBoard. A context manager.

    Raises UserError where another process holds the run, DamagedFile where its metrics are broken.
    """

    def __init__(self, run: Run, step: int = 0, judged: bool = True) -> None:
        """Go on after env step `step`: what was recorded beyond it is cut off, and if the agent is
        to be `judged` there yet, what that once led to."""
        self.run = run
        self._lock = (run.path / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{run.path} is being written by another process") from None
        try:
            _truncate(run.path / "metrics.jsonl", step, judged)
        except DamagedFile:
            self._lock.close()
            raise
        self._metrics: TextIO = (run.path / "metrics.jsonl").open("a")
        self._log: TextIO = (run.path / "log.txt").open("a")
        self._board = _board(run.path / "tb", step)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._metrics.close()
        self._log.close()
        self._board.close()
        self._lock.close()

    def record(self, metrics: Mapping[str, float]) -> None:
        """Append one line of numbers, of which `env_steps` is the time axis. Names with a slash
        go to TensorBoard too."""
        self._metrics.write(json.dumps(without_nan(metrics), allow_nan=False) + "\n")
        self._metrics.flush()
        for name, value in metrics.items():
            if "/" in name:
                self._board.add_scalar(name, value, int(metrics["env_steps"]))

    def log(self, text: str) -> None:
        """Append a line to log.txt, with the time."""
        self._log.write(f"{utc()} {text}\n")
        self._log.flush()

    def sync(self) -> None:
        """Put the metrics on the disk, so that no checkpoint is ever ahead of them."""
        os.fsync(self._metrics.fileno())
        self._board.flush()


def find(name: str, root: Path = DEFAULT_ROOT) -> Run:
    """The run at a path, or the one below `root` whose name contains `name`, or the `latest`.

    Raises UserError with near matches where there is none, or more than one.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return Run(path)
    if path.is_dir():
        raise UserError(f"{path} is not a run: it has no config.json")
    runs = runs_in(root)
    if not runs:
        raise UserError(f"no run {name!r}: {root} holds none; choose another place with --runs, "
                        "or begin with metarl train")
    if name == "latest":
        return runs[-1]
    found = [run for run in runs if name in str(run.path.relative_to(root))]
    if len(found) > 1:
        names = ", ".join(run.name for run in found[-3:])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(f"{name!r} fits {len(found)} runs: {names}{more}; write more of the name")
    if not found:
        raise unknown("run", name, [run.name for run in runs[-5:]] + ["latest"])
    return found[0]


def environment() -> dict[str, Any]:
    """Versions and machine: what a number depends on beside the configuration."""
    import torch

    return {
        "metarl": metarl.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": len(cores()),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": commit(),
    }


def utc() -> str:
    """The time now, as 20261121T130501Z."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def this_command() -> list[str]:
    """The command line of this process, as one would type it."""
    return ["metarl", *sys.argv[1:]]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(name: str) -> str:
    """A component's name as a folder: a `package.module:Name` keeps its last part."""
    return name.rpartition(":")[2].rpartition("/")[2]


def runs_in(root: Path) -> list[Run]:
    """Every run below a root, the one that was last written to last."""
    found = [Run(file.parent) for file in root.glob("*/*/*/config.json")]
    return sorted(found, key=lambda run: (_written(run), run.name, run.path))


def _written(run: Run) -> str:
    try:
        return str(run.status["time"])
    except (DamagedFile, KeyError):
        return ""  # of a run that never began


def _complete_lines(file: Path) -> Iterable[tuple[dict[str, Any], int]]:
    """(line, offset of its end) of each whole line; without the last where a crash tore it.
    Raises DamagedFile for any other that is not a record."""
    if not file.exists():
        return
    lines, end = file.read_bytes().splitlines(keepends=True), 0
    for number, text in enumerate(lines, start=1):
        end += len(text)
        try:
            line = json.loads(text)
            whole = text.endswith(b"\n") and "env_steps" in line
        except (ValueError, TypeError):
            line, whole = {}, False
        if whole:
            yield line, end
        elif number < len(lines):
            raise DamagedFile(f"{file}: line {number} is not a record of training; delete that "
                              "line to go on without it")


def _truncate(file: Path, step: int, judged: bool) -> None:
    """Cut off the lines beyond env step `step`, and an evaluation there unless it is `judged`."""
    if file.exists():
        kept = [end for line, end in _complete_lines(file) if line["env_steps"] < step or (
            line["env_steps"] == step
            and (judged or not any(name.startswith("eval/") for name in line)))]
        os.truncate(file, kept[-1] if kept else 0)


def _board(folder: Path, step: int) -> Any:
    # TensorBoard takes a second to import, and reading a run needs none of it.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1 if folder.exists() else None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of metarl's own checkout, with a + where files differ from it: other than those
    that figures are written into, to which each adds its own."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None

    def said(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True,
                              timeout=10, check=True).stdout.strip()

    try:
        changed = said("diff", "--name-only", "HEAD", "--", ".", ":(exclude)experiments/results")
        return said("rev-parse", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None
