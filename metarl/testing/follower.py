"""A robot of LeRobot's own kind with an SO-101 in MuJoCo behind it: type `metarl_follower`.

    echo 'type: metarl_follower' > robot.yaml
    metarl robot check lerobot --option config=robot.yaml plugin=metarl.testing.follower --yes
"""

from dataclasses import dataclass

from metarl.robot.driver import extra
from metarl.testing.lerobot_body import BodyRobot

robots = extra("lerobot.robots", "lerobot")


@robots.RobotConfig.register_subclass("metarl_follower")
@dataclass(kw_only=True)
class FollowerConfig(robots.RobotConfig):
    """What differs from the arm of the families."""

    payload: float = 0.0  # kg
    unit: str = "degrees"
    disable_torque_on_disconnect: bool = True


class Follower(BodyRobot, robots.Robot):
    """LeRobot finds it by the name of its configuration."""

    config_class = FollowerConfig

    def __init__(self, config: FollowerConfig) -> None:
        robots.Robot.__init__(self, config)
        BodyRobot.__init__(self, config.unit, payload=config.payload)
        self.config = config
