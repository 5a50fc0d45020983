"""What is looked at before an arm moves, as rows of a table; one that fails stops everything."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from metarl.envs.family import Family, named_task
from metarl.robot.arm import ArmError, ArmSpec, ArmState
from metarl.robot.latency import Latency
from metarl.robot.limits import Limits

Mark = Literal["ok", "warn", "FAILS"]
_ROOM = 200e6  # bytes of disk


@dataclass(frozen=True)
class Item:
    """One thing that was looked at."""

    name: str
    found: str
    mark: Mark = "ok"


def look(
    family: Family, task: torch.Tensor, spec: ArmSpec, state: ArmState, limits: Limits,
    unmonitored: tuple[str, ...], folder: Path,
) -> list[Item]:
    """Everything that can be known with the arm standing still; task (1, D)."""
    rate = 1 / family.control_step
    items = [
        Item("arm", f"{spec.model}, {len(spec.joints)} joints, spec {spec.digest()[:12]}"),
        Item("policy", f"{family.name} at {rate:g} Hz: velocities of the same joints, in order"),
        _state(spec, state), _task(family, task),
        Item("limits", f"tool {limits.speed:g} m/s, tube {limits.tube:g} rad, box "
                       f"{_box(limits)} m"),
        Item("watchdog", f"{spec.watchdog}", "warn" if spec.watchdog == "guard-only" else "ok"),
    ]
    if unmonitored:
        items.append(Item("unmonitored", ", ".join(unmonitored), "warn"))
    room = shutil.disk_usage(folder).free
    items.append(Item("disk", f"{room / 1e9:.1f} GB free", "ok" if room > _ROOM else "FAILS"))
    return items


def look_at_delays(latency: Latency, family: Family, trained: Mapping[str, Any]) -> Item:
    """Whether the arm is as slow to tell and to act as what the policy was trained with."""
    fine, text = latency.judge(trained, family.control_step)
    return Item("latency", text, "ok" if fine else "warn")


def refuse_failures(items: list[Item]) -> None:
    """Raises ArmError where something fails."""
    if failed := [f"{item.name} ({item.found})" for item in items if item.mark == "FAILS"]:
        raise ArmError(f"pre-flight fails: {'; '.join(failed)}; nothing was moved")


def _state(spec: ArmSpec, state: ArmState) -> Item:
    if state.faults:
        return Item("state", state.faults[0].text, "FAILS")
    for name, q, low, high in zip(spec.joints, state.q, spec.q_min, spec.q_max, strict=True):
        if not low <= q <= high:
            return Item("state", f"{name} at {q:.2f} rad is outside [{low:.2f}, {high:.2f}]",
                        "FAILS")
    return Item("state", f"{state.mode}, no faults, inside all joints' limits")


def _task(family: Family, task: torch.Tensor) -> Item:
    named = named_task(family, task[0])
    out = [p.name for p in family.parameters if not p.train[0] <= named[p.name] <= p.train[1]]
    text = ", ".join(f"{p.name} {p.words(named[p.name])}" for p in family.parameters)
    return Item("task", f"{text}" + (f"; outside the trained range: {', '.join(out)}" if out
                                     else ""), "warn" if out else "ok")


def _box(limits: Limits) -> str:
    low, high = limits.box
    return " x ".join(f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True))
