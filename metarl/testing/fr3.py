"""franky-sim, a third party's simulator that speaks Franka's protocol, in a process of its own.

It knows no safety limits and never faults; the fault here ends the connection, as a cut cable does.
"""

import json
import subprocess
import sys
from typing import Self

# Half of the simulator's own for the wrist, which swings under those at 1 kHz.
DAMPING = (450.0, 450.0, 350.0, 350.0, 100.0, 100.0, 100.0)  # N m s/rad


class FrankySim:
    """An FR3 at home, reachable at `host` inside a `with`, with a payload [kg] at its hand."""

    def __init__(self, payload: float = 0.0) -> None:
        self._payload = payload
        self.host = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "metarl.testing.fr3", str(self._payload)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.host = json.loads(self._process.stdout.readline())["host"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **said: float) -> list[float]:
        """Where its joints really are [rad], after it was given another `payload` [kg]."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Serve until the standard input ends."""
    import mujoco
    from franky_sim import SimulationServer
    from franky_sim.mujoco_simulator import MujocoSimulator

    from metarl.envs.arms import ARMS

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

        load(float(sys.argv[1]))
        server.run_async()
        print(json.dumps({"host": server.robot_servers[0].hostname}), flush=True)
        for line in sys.stdin:
            said = json.loads(line)
            if "payload" in said:
                load(said["payload"])
            print(json.dumps([float(data.qpos[i]) for i in robot._qpos_addrs]), flush=True)


if __name__ == "__main__":
    main()
