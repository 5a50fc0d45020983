"""franky-sim, a third party's simulator that speaks Franka's protocol, in a process of its own.

It knows no safety limits and never faults; the fault here ends the connection, as a cut cable does.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import tyro

from metarl.robot.arm import Unsupported
from metarl.robot.clock import hurry
from metarl.robot.driver import extra
from metarl.testing.apart import Apart, Told, announce, listen
from metarl.testing.live import HASTE
from metarl.testing.witness import Witness

# Half of the simulator's own for the wrist, which swings under those at 1 kHz.
DAMPING = (450.0, 450.0, 350.0, 350.0, 100.0, 100.0, 100.0)  # N m s/rad

_STEP, _GAP = 1e-3, 2e-4  # s, of time that passes, and to the next step at least
_PAUSE = 0.1  # s, that are caught up


class FrankySim(Apart):
    """An FR3 at home, reachable at `host` inside a `with`, with a payload [kg] at its hand.

    `ask` tells where its joints really are [rad], after it was given another `payload` [kg]; or its
    witness's `account`.
    """

    def __init__(self, payload: float = 0.0) -> None:
        super().__init__(__name__, f"--payload={payload}")

    @property
    def host(self) -> str:
        """Its address."""
        return str(self.options["host"])


def _keep_time(server: Any, look: Callable[[], None]) -> None:
    """Step at 1 kHz of the host's clock, and catch up after a pause: the simulator's own loop only
    falls behind. Between steps there is time for the client to answer."""
    due = time.monotonic()
    while server.running:
        for robot in server.robot_servers:
            robot.process_commands()
        server.sim.step()
        for robot in server.robot_servers:
            robot.send_state()
        look()
        now = time.monotonic()
        due = max(due + _STEP, now - _PAUSE)
        time.sleep(max(_GAP, due - now))


def main(
    payload: float = 0.0,  # kg, at the hand
) -> None:
    """Serve until the standard input ends."""
    import mujoco
    import numpy as np

    try:
        extra("franky_sim", "franka-sim")
    except Unsupported as missing:
        print(f"metarl: {missing}", file=sys.stderr)
        sys.exit(2)
    from franky_sim import SimulationServer  # pyright: ignore[reportMissingImports]
    from franky_sim.mujoco_simulator import (  # pyright: ignore[reportMissingImports]
        MujocoSimulator,
    )

    from metarl.envs.arms import ARMS

    sys.setswitchinterval(1e-4)  # s: the thread that listens must not keep the one that steps
    simulator = MujocoSimulator()
    robot = simulator.add_robot(initial_q=ARMS["fr3"].home, kv=DAMPING)
    with simulator, SimulationServer(simulator) as server:
        model, data = simulator.model, simulator.data
        assert model is not None and data is not None
        hand = model.body("robot0_hand").id
        bare = model.body_mass[hand]

        def load(kilograms: float) -> None:
            model.body_mass[hand] = bare + kilograms
            mujoco.mj_setConst(model, mujoco.MjData(model))

        def control(target_q: Any, has_new_command: bool = True) -> None:
            witness.told(np.asarray(target_q))
            follow(target_q, has_new_command)

        def answer(said: Told) -> Any:
            if "account" in said:
                return witness.account()
            if "payload" in said:
                load(said["payload"])
            return [float(data.qpos[i]) for i in robot._qpos_addrs]

        witness, follow = Witness(), robot.joint_position_control
        robot.joint_position_control = control  # what a plan tells it, each millisecond
        load(payload)
        server.running = True  # until the end of the `with`, which waits for the thread
        hurry(HASTE)  # and so does what this thread starts
        server.async_thread = threading.Thread(target=_keep_time, args=(
            server, lambda: witness.looked(data.qvel[robot._dof_addrs])), daemon=True)
        server.async_thread.start()
        announce("franka", {"host": str(server.robot_servers[0].hostname), "realtime": False})
        listen(answer)


if __name__ == "__main__":
    tyro.cli(main)
