"""What happened on an arm, as MCAP: append-only, self-describing, opens in ROS tools.

Topics: `session` (what was asked for, and found), `start`, `step`, `episode`, `abort`, `reset` of
the arm's worlds, `rollout`, `candidate` and `verdict` of a session, and `guard`, every tick of the
guard, which it wrote by itself. Messages are JSON. A file that was cut off can still be read, one
that was changed is refused.
"""

import contextlib
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import NonSeekingReader
from mcap.writer import CompressionType, Writer
from zstandard import ZstdError

from metarl.documents import without_nan
from metarl.errors import DamagedFile, UserError
from metarl.robot.wire import read_log

_CHUNK = 1 << 15  # bytes that a crash may cost
_NANO = 1e9
_MAGIC = b"\x89MCAP0\r\n"  # first and last bytes of a whole file
_LEAST = 64  # bytes, that the head of a log is longer than
_MOST = 1 << 26  # bytes of a record; a longer one is damage


class Recorder:
    """A log that is written to: a `metarl.robot.worlds.Log`, and a context manager.

    The policy's process writes it, never the guard's.
    """

    def __init__(self, path: Path) -> None:
        """Makes the directory. Raises UserError rather than write over a log."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except FileExistsError:
            raise UserError(f"{path} exists; choose another place for the log") from None
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        self.path = path
        self._writer = Writer(self._file, chunk_size=_CHUNK, compression=CompressionType.ZSTD)
        self._writer.start(profile="", library="metarl")
        self._channels: dict[str, int] = {}
        # Messages tell monotonic time; this turns it into the day's.
        self._offset = time.time() - time.monotonic()

    def __call__(self, topic: str, what: Mapping[str, Any]) -> None:
        """Keep a message; its `t` [s, monotonic] is when it happened."""
        if topic not in self._channels:
            schema = self._writer.register_schema(
                f"metarl.{topic}", "jsonschema", b'{"type": "object"}')
            self._channels[topic] = self._writer.register_channel(topic, "json", schema)
        when = round((float(what.get("t", time.monotonic())) + self._offset) * _NANO)
        data = json.dumps(without_nan(dict(what)), allow_nan=False).encode()
        self._writer.add_message(self._channels[topic], when, data, when)

    def add_guard(self, path: Path) -> None:
        """Take over the log that a guard wrote; without one, nothing."""
        if not path.is_file():
            return
        with path.open("rb") as file:
            for report in read_log(file):
                state = report.state
                self("guard", {
                    "t": report.t, "tick": report.tick, "phase": str(report.phase),
                    "reason": report.reason, "seq": report.seq, "rejected": report.rejected,
                    "requested": report.requested.tolist(), "applied": report.applied.tolist(),
                    "limits": list(report.limits), "q": state.q.tolist(), "dq": state.dq.tolist(),
                    "unlogged": report.unlogged, "age": report.t - state.t_host,
                    "mode": str(state.mode),
                    "faults": [fault.text for fault in state.faults],
                    "tau": None if state.tau is None else state.tau.tolist()})

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.finish()
        self._file.close()
        if error is not None and not self._channels:
            # Refused before anything happened: leave nothing behind.
            self.path.unlink()
            with contextlib.suppress(OSError):  # where there is something else in it
                self.path.parent.rmdir()


def messages(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(topic, message) in the order in which they were written, up to where a file was cut off.

    Raises DamagedFile for what is no log, and where one is not what was written.
    """
    try:
        with path.open("rb") as file:
            reader = NonSeekingReader(file, validate_crcs=True, record_size_limit=_MOST)
            try:
                for _, channel, message in reader.iter_messages(log_time_order=False):
                    yield channel.topic, json.loads(message.data)
            except (EndOfFile, struct.error):
                if path.stat().st_size < _LEAST:
                    raise DamagedFile(f"{path} is no MCAP log, or one that was cut off before "
                                      "anything was kept in it") from None
                if file.tell() < _LEAST or is_whole(path):
                    raise DamagedFile(f"{path} is no MCAP log, or a damaged one") from None
            except (McapError, ZstdError, ValueError, OverflowError, MemoryError) as error:
                raise DamagedFile(f"{path} is no MCAP log, or a damaged one: {error}") from None
    except IsADirectoryError:
        inside = next(iter(sorted(path.glob("*.mcap"))), None)
        told = f"; its log is {inside}" if inside else ", and holds none; name a session's log.mcap"
        raise UserError(f"{path} is a folder, not a log{told}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def is_whole(path: Path) -> bool:
    """Whether a log was closed, not cut off."""
    with path.open("rb") as file:
        file.seek(-min(len(_MAGIC), path.stat().st_size), os.SEEK_END)
        return file.read() == _MAGIC


def summary(path: Path) -> dict[str, Any]:
    """What a log tells in short: whether it was closed or cut off, messages by topic, episodes,
    limits, ages, faults, verdicts."""
    topics, limits, faults = Counter[str](), Counter[str](), Counter[str]()
    ages: list[float] = []
    episodes: list[dict[str, Any]] = []
    found: dict[str, Any] = {"verdicts": []}
    for topic, message in messages(path):
        topics[topic] += 1
        if topic in ("step", "guard"):
            limits.update(message["limits"])
            faults.update(message["faults"])
        if topic == "step":
            ages.append(message["age"])
        elif topic == "rollout":
            episodes.append(message)
        elif topic == "verdict":
            found["verdicts"].append(message)
        elif topic in ("session", "candidate"):
            found[topic] = message
    if ages:
        found["age [ms]"] = dict(zip(
            ("p50", "p99", "max"), (1e3 * np.quantile(ages, [0.5, 0.99, 1.0])).tolist(),
            strict=True))
    return {"file": str(path), "whole": is_whole(path), "messages": dict(topics),
            "episodes": episodes, "limits": dict(limits.most_common()), "faults": dict(faults),
            **found}
