r"""LeRobot's robot type `metarl`: any arm of metarl's, behind its guard.

LeRobot imports by itself what is installed under a name like `lerobot_robot_...`; metarl is not, so
its commands are told of this module:

    lerobot-teleoperate --robot.discover_packages_path=metarl.robot.lerobotplugin \
        --robot.type=metarl --robot.arm=so101 --robot.live=true --robot.operator=Ada \
        --robot.options='{port: /dev/ttyACM0, calibration: arm.json}' \
        --teleop.type=so101_leader --teleop.port=/dev/ttyACM1 --teleop.use_degrees=true

Programs import it and give a `LeRobotPluginConfig` to LeRobot's `make_robot_from_config`.
"""

from dataclasses import dataclass, field
from typing import Any

from metarl.robot.driver import extra
from metarl.robot.guarded import GuardedArm

robots = extra("lerobot.robots", "lerobot")
__path__: list[str] = []  # LeRobot looks for submodules of what it is told of


@robots.RobotConfig.register_subclass("metarl")
@dataclass(kw_only=True)
class LeRobotPluginConfig(robots.RobotConfig):
    """See metarl.robot.guarded.Settings."""

    arm: str = "twin"
    options: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    joints: str = ""
    zeros: str = ""
    least_fps: float = 15.0
    live: bool = False
    operator: str = ""


class LeRobotPlugin(GuardedArm, robots.Robot):
    """LeRobot finds it by the name of its configuration, in the module of that name."""

    config_class, name = LeRobotPluginConfig, "metarl"

    def __init__(self, config: LeRobotPluginConfig) -> None:
        robots.Robot.__init__(self, config)
        GuardedArm.__init__(self, config)
