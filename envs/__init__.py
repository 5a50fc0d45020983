"""Task families, the engines that run them, and their gymnasium and SB3 faces."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import gymnasium

if TYPE_CHECKING:
    from metarl.envs.family import Family

_PLACES = {
    "ant-dir": "ant_dir:AntDir",
    "ant-goal": "ant_goal:AntGoal",
    "ant-terrain": "ant_terrain:AntTerrain",
    "cheetah-dir": "cheetah_dir:CheetahDir",
    "cheetah-vel": "cheetah_vel:CheetahVel",
    "hopper-params": "hopper_params:HopperParams",
    "humanoid-dir": "humanoid_dir:HumanoidDir",
    "insert": "insert:Insert",
    "lift": "lift:Lift",
    "push": "push:Push",
    "reach": "reach:Reach",
    "walker-params": "walker_params:WalkerParams",
    "walker-terrain": "walker_terrain:WalkerTerrain",
}


class _Families(Mapping[str, "type[Family]"]):
    """Imports a family when it is asked for: the guard of an arm, which wants only numbers from
    here, must not carry torch."""

    def __getitem__(self, name: str) -> "type[Family]":
        module, cls = _PLACES[name].split(":")
        return getattr(importlib.import_module(f"metarl.envs.{module}"), cls)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


FAMILIES: Mapping[str, "type[Family]"] = _Families()

for _name in FAMILIES:
    # No max_episode_steps: an episode's end is the family's, and a second limit would hide it.
    gymnasium.register(
        f"metarl/{_name}-v1",
        entry_point="metarl.envs.faces:WorldEnv",
        vector_entry_point="metarl.envs.faces:WorldVectorEnv",
        kwargs={"family": _name},
    )
