"""The drivers keep the contract of an arm, each over its double."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from metarl.robot.arm import ArmAdapter
from metarl.robot.feetech import So101
from metarl.robot.franka import Fr3
from metarl.robot.ur import Ur5e
from metarl.testing.body import Body
from metarl.testing.conformance import Factory, Inject, Verdict, checks, judge
from metarl.testing.fr3 import FrankySim
from metarl.testing.rtde import Ur
from metarl.testing.servo_bus import ServoBus, Trouble

# What the bus makes of a fault. It answers questions, one by one: nothing can come out of order,
# and nothing that it tells has a time.
ON_THE_BUS: dict[str, Trouble] = {
    "late": "late", "lost": "drop", "duplicated": "duplicate", "corrupt": "corrupt"}
STATUS, OVERLOAD = 65, 32  # a register, a bit


@contextmanager
def so101() -> Iterator[tuple[Factory, Inject]]:
    buses: list[ServoBus] = []
    with tempfile.TemporaryDirectory() as folder:

        def fresh() -> ArmAdapter:
            bus = ServoBus(Body("so101"))
            bus.delay = 0.19  # s
            buses.append(bus)
            bus.__enter__()
            return So101(bus.port, bus.save_calibration(Path(folder) / "calibration.json"))

        def faults(_: ArmAdapter, fault: str) -> None:
            bus = buses[-1]
            if fault == "overload":
                bus.poke(2, STATUS, OVERLOAD)
            elif fault:
                bus.spoil(ON_THE_BUS[fault], answers=100_000)
            else:
                bus.spoil("drop", answers=0)
                bus.poke(2, STATUS, 0)

        yield fresh, faults
        for bus in buses:
            bus.__exit__()


@contextmanager
def ur5e() -> Iterator[tuple[Factory, Inject]]:
    with Ur(unlock_after=0.2) as controller:

        def fresh() -> ArmAdapter:
            controller.ask(registers={}, trouble="")
            time.sleep(0.05)
            return Ur5e(controller.host)

        def faults(_: ArmAdapter, fault: str) -> None:
            if fault == "corrupt":
                raise KeyError(fault)  # TCP has checksums of its own
            controller.ask(trouble=fault)

        yield fresh, faults


@contextmanager
def franka() -> Iterator[tuple[Factory, Inject]]:
    with FrankySim() as simulator:

        def faults(_: ArmAdapter, fault: str) -> None:
            raise KeyError(fault)  # it never fails

        yield lambda: Fr3(simulator.host, realtime=False), faults


DRIVERS = {"so101": so101}
UNCHECKED = {
    "so101": {"reordered", "frozen", "nan"}, "ur5e": {"corrupt"},
    "franka": {"latching", "late", "lost", "duplicated", "reordered", "corrupt", "frozen", "nan"},
}
if find_spec("rtde_control"):  # the extra `ur`; without it tests/test_ur.py says what is missing
    DRIVERS["ur5e"] = ur5e
if find_spec("franky_sim"):  # the extras `franka` and `franka-sim`
    DRIVERS["franka"] = franka


def verdict(driver: str, number: int) -> Verdict:
    """Of one check, on a double of its own."""
    with DRIVERS[driver]() as (fresh, faults):
        return judge(checks()[number], fresh, faults)


@pytest.fixture(scope="module")
def judged() -> Iterator[Callable[[str], list[Future[Verdict]]]]:
    """The verdicts on a driver. They mostly wait: several processes, as some libraries hold
    Python's lock meanwhile."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, context) as pool:
        yield lambda driver: [pool.submit(verdict, driver, i) for i in range(len(checks()))]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_keeps_the_contract_of_an_arm(
    driver: str, judged: Callable[[str], list[Future[Verdict]]]
) -> None:
    found = [future.result() for future in judged(driver)]
    assert [(v.name, v.problem) for v in found if v.problem] == []
    assert {v.name for v in found if v.unchecked} == UNCHECKED[driver]
