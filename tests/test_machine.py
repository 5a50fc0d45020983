"""What a process has of the machine."""

import subprocess
import sys
import threading

from metarl.cli.bench import _work
from metarl.envs.engine import BatchEngine
from metarl.envs.reach import Reach
from metarl.machine import cores, keep_freed_memory, keep_to, shares
from metarl.run import environment
from metarl.study import Job

_CHURN = """
import ctypes
import resource
import sys

from metarl.machine import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def step():
    blocks = [libc.malloc(30 << 20) for _ in range(4)]
    for block in blocks:
        libc.memset(block, 1, 30 << 20)
    for block in blocks:
        libc.free(block)


for _ in range(5):  # until there is enough
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(how: str) -> int:
    """How many pages the system had to give to a process that takes and frees large blocks."""
    done = subprocess.run([sys.executable, "-c", _CHURN, how], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_large_blocks_that_are_freed_serve_the_next_ones() -> None:
    keep_freed_memory()  # does no harm anywhere; glibc alone keeps anything
    if sys.platform.startswith("linux"):
        assert pages("kept") < pages("as it is") / 10


def test_cores_are_dealt_out() -> None:
    assert shares([0, 1, 2, 3, 4], 2) == [[0, 2, 4], [1, 3]]
    assert shares([7], 3) == [[7], [7], [7]]


def test_jobs_at_a_time_have_cores_of_their_own() -> None:
    together, seen = threading.Barrier(2, timeout=60), list[list[int]]()

    class Both:
        def work(self, jobs: list[Job]) -> None:
            together.wait()  # none ends before both have begun
            seen.append(cores())

    before = cores()
    _work(Both(), [], 2)  # pyright: ignore[reportArgumentType]
    assert sorted(seen) == sorted(shares(before, 2)) and cores() == before


def test_physics_and_the_record_of_a_run_know_the_cores_they_may_use() -> None:
    found = list[int]()

    def one_core() -> None:
        keep_to(cores()[:1])
        found.extend([BatchEngine(Reach(), 2)._batch.nthread, environment()["cores"]])

    thread = threading.Thread(target=one_core)
    thread.start()
    thread.join()
    if sys.platform.startswith("linux"):
        assert found == [1, 1]
