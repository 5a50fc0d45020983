"""The guard's own log: where it cannot be written the arm goes on, and what is lost is told."""

import errno
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from test_guard import Rig

from metarl.robot.guard import Guard, _listen_at
from metarl.robot.link import Phase
from metarl.robot.wire import Reader, pack_report, read_log, unpack_report


class Disk(io.BytesIO):
    """One that is full while a test says so; what was written can be read after it was closed."""

    full, kept = False, b""

    def write(self, data: object) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_full_disk_stops_neither_the_arm_nor_the_log_and_what_is_lost_is_told(
    tmp_path: Path
) -> None:
    told, parent = os.pipe()
    listener, disk, rig = _listen_at(tmp_path / "socket"), Disk(), Rig().on()
    served = Guard(rig.keeper, listener, b"", disk, told)
    thread = threading.Thread(target=served.serve)
    thread.start()
    try:
        until(lambda: rig.keeper._tick > 5)
        disk.full = True
        until(lambda: rig.keeper.unlogged >= 5)
        assert served._log is not None and served._log.waiting < 5  # it goes on being emptied
        assert rig.keeper.phase is not Phase.OFF and thread.is_alive()
        disk.full = False
        before = disk.tell()
        until(lambda: disk.tell() > before)
    finally:
        served.ending = True
        thread.join()
        listener.close()
        os.close(told)
        os.close(parent)
    reports = list(read_log(io.BytesIO(disk.kept)))
    assert reports[0].unlogged == 0 and reports[-1].unlogged >= 5


def test_a_report_says_how_many_the_guard_could_not_keep() -> None:
    rig = Rig().on()
    rig.keeper.unlogged = 7
    (_, body), = Reader().feed(pack_report(rig.ticks()))
    assert unpack_report(body).unlogged == 7
