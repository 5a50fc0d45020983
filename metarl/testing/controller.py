"""A Universal Robots controller with an arm behind it: its state, and what its programs do, by the
registers through which ur_rtde's uploaded script is spoken to and by the dashboard's words. The
script itself is not run.
"""

import math
import time
from typing import Any

import numpy as np

from metarl.testing.body import Body
from metarl.testing.live import Live
from metarl.testing.witness import Witness

TICK = 0.008  # s
POWER_OFF, IDLE, RUNNING = 3, 5, 7  # robot modes
NORMAL, PROTECTIVE_STOP = 1, 3  # safety modes


class Controller:
    """The controller's state, and the programs that a client may run on it."""

    def __init__(self, body: Body, unlock_after: float) -> None:
        self._live, self._unlock_after = Live(body), unlock_after
        self.witness = Witness()
        self.robot_mode, self.safety_mode, self.program = POWER_OFF, NORMAL, False
        self.registers: dict[str, float] = {}
        self.watchdog, self.fed = math.inf, 0.0  # s
        self.written = 0  # packets of input, scripts and acts that a client sent
        self.target = body.data.qpos.copy()  # rad, of servoj
        self.lookahead = 0.1  # s
        self._setpoint, self._stopped, self._then = self.target.copy(), 0.0, time.monotonic()

    def tick(self) -> None:
        """Live until now."""
        now = time.monotonic()
        if self.program and now - self.fed > self.watchdog:
            self.protective_stop()
        share = 1 - math.exp(-(now - self._then) / self.lookahead)
        self._setpoint += share * (self.target - self._setpoint)
        self._then = now
        self._live.resting = self.robot_mode != RUNNING  # its brakes hold it
        body = self._live.now()
        body.torque(True)
        body.aim(self._setpoint)
        self.witness.told(self.target)
        self.witness.looked(body.measure()[1])

    def protective_stop(self) -> None:
        """Stop where it is, the program too."""
        self.safety_mode, self.program, self._stopped = PROTECTIVE_STOP, False, time.monotonic()
        self.halt()

    def halt(self) -> None:
        """Go no farther."""
        self.target = self._setpoint.copy()

    def run_script(self) -> None:
        """Start a program, where one may run."""
        self.written += 1
        self.program = self.robot_mode == RUNNING and self.safety_mode == NORMAL
        self.watchdog = math.inf
        self.registers["output_int_register_0"] = int(self.program)
        # Registers outlive programs: what the last client left there is obeyed.
        self.obey({"input_int_register_0": self.registers.get("input_int_register_0", 0)})

    def obey(self, said: dict[str, float]) -> None:
        """What an input packet asks of the program, by number."""
        self.registers |= said
        if "input_int_register_0" not in said or not self.program:
            return
        self.fed = time.monotonic()
        double = [self.registers.get(f"input_double_register_{i}", 0.0) for i in range(11)]
        command, answer = said["input_int_register_0"], 2
        if command in (0, 11):  # idle; servoj
            answer = 1
        if command == 11:
            self.target, self.lookahead = np.array(double[:6]), double[9]
        elif command == 16:  # servo stop
            self.halt()
        elif command == 31:
            self.protective_stop()
        elif command == 35:
            self.watchdog = 1 / double[0]
        elif command == 255:
            self.program = False
            self.halt()
        self.written += command != 0
        self.registers["output_int_register_0"] = answer

    def dashboard(self, line: str) -> str:
        """The answer to a line."""
        questions = {
            "polyscopeversion": "URSoftware 5.11.0.108249 (Oct 01 2021)",
            "get serial number": "20215500000", "is in remote control": "true",
            "get robot model": "UR5", "running": f"Program running: {str(self.program).lower()}",
            "robotmode": f"Robotmode: {'RUNNING' if self.robot_mode == RUNNING else 'POWER_OFF'}",
            "safetystatus": f"Safetystatus: {self._safety()}",
            "safetymode": f"Safetymode: {self._safety()}", "quit": "Disconnected",
            "programstate": "PLAYING" if self.program else "STOPPED",
        }
        if line.lower() in questions:
            return questions[line.lower()]
        self.written += 1
        return self._act(line.lower())

    def _act(self, line: str) -> str:
        if line == "power on":
            self.robot_mode = max(self.robot_mode, IDLE)
            return "Powering on"
        if line == "brake release":
            self.robot_mode = RUNNING
            return "Brake releasing"
        if line == "power off":
            self.robot_mode, self.program = POWER_OFF, False
            return "Powering off"
        if line == "stop":
            self.program = False
            return "Stopped"
        if line == "unlock protective stop":
            if time.monotonic() - self._stopped < self._unlock_after:
                return "Cannot unlock protective stop until 5s after occurrence. Always inspect " \
                       "cause of protective stop before unlocking"
            self.safety_mode = NORMAL
            return "Protective stop releasing"
        return "closing safety popup" if line == "close safety popup" else "Unknown command"

    def _safety(self) -> str:
        return "NORMAL" if self.safety_mode == NORMAL else "PROTECTIVE_STOP"

    def report(self) -> dict[str, Any]:
        """What can be told of it now, by field; the rest is zero."""
        body = self._live.now()
        q, dq, tau = body.measure()
        zero = np.zeros(6)
        return self.registers | {
            "timestamp": time.monotonic(), "actual_q": q, "actual_qd": dq,
            "target_q": self._setpoint, "actual_current": tau / 10, "ft_raw_wrench": zero,
            "joint_temperatures": zero + 28.0, "robot_mode": self.robot_mode,
            "safety_mode": self.safety_mode, "runtime_state": 2 if self.program else 1,
            "robot_status_bits": (self.robot_mode >= IDLE) + 2 * self.program,
            "safety_status_bits": 1 if self.safety_mode == NORMAL else 4,
            "speed_scaling": 1.0, "target_speed_fraction": 1.0,
        }
