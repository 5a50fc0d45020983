"""Task families, the engines that run them, and their gymnasium and SB3 faces."""

from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Family
from metarl.envs.reach import Reach

FAMILIES: dict[str, type[Family]] = {
    "cheetah-vel": CheetahVel,
    "reach": Reach,
}
