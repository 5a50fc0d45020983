"""The contract of an arm: what a spec and a command may be, and the body behind the doubles."""

import dataclasses
import math

import numpy as np
import pytest

from metarl.envs.arms import ARMS
from metarl.envs.kinematics import forward
from metarl.robot.arm import (
    ArmError,
    ArmSpec,
    Command,
    Mode,
    NotAcknowledged,
    OperatorAck,
    Rejected,
    check_command,
)
from metarl.robot.specs import spec_of
from metarl.testing.body import Body, Flaws


def spec() -> ArmSpec:
    return spec_of("so101", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10, 125),
                   watchdog="guard-only", senses=frozenset({"q", "dq"}))


def command(**changes: object) -> Command:
    plain = Command(seq=5, mode=Mode.JOINT_POSITION, value=np.zeros(5), expires=10.0)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize("arm", ARMS)
def test_the_chain_of_a_spec_leads_where_the_family_s_kinematics_do(arm: str) -> None:
    body = ARMS[arm]  # pyright: ignore[reportArgumentType]
    made = spec_of(body.name, modes=frozenset(Mode), rate_hz=(10, 100), watchdog="device",
                   senses=frozenset())
    q = np.linspace(-0.4, 0.3, len(body.joints))
    place, turned = np.zeros(3), np.reshape(made.chain.base, (3, 3))
    for frame, angle in zip(made.chain.frames, [*q, 0.0], strict=True):
        place = place + turned @ frame[:3]
        c, s = math.cos(angle), math.sin(angle)
        turned = turned @ np.reshape(frame[3:], (3, 3)) @ [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    np.testing.assert_allclose(place, forward(body, q[None]).position[0], atol=1e-12)


@pytest.mark.parametrize(("name", "value"), [
    ("dq_max", (1.0, 1.0, 1.0, 1.0, 0.0)), ("ddq_max", (1.0, 1.0, 1.0, 1.0, math.inf)),
    ("q_min", (math.nan,) * 5), ("q_max", (1.0,) * 4), ("q_max", (-9.0,) * 5),
    ("senses", frozenset({"smell"})), ("rate_hz", (0.0, 10.0)),
])
def test_a_limit_that_limits_nothing_is_refused(name: str, value: object) -> None:
    with pytest.raises(ArmError):
        dataclasses.replace(spec(), **{name: value})


def test_another_limit_is_another_digest() -> None:
    assert spec().digest() == spec().digest()
    assert dataclasses.replace(spec(), dq_max=(1.0,) * 5).digest() != spec().digest()


@pytest.mark.parametrize("changes", [
    {"value": np.array([0, 0, 0, 0, math.nan])}, {"value": np.array([math.inf, 0, 0, 0, 0])},
    {"value": np.zeros(6)}, {"value": np.zeros((1, 5))}, {"value": np.zeros(5, np.float32)},
    {"seq": 4}, {"seq": 3}, {"expires": 9.0}, {"expires": math.nan}, {"expires": math.inf},
    {"mode": Mode.JOINT_VELOCITY}, {"gripper": 1.5}, {"gripper": math.nan},
])
def test_a_command_that_makes_no_sense_is_rejected(changes: dict[str, object]) -> None:
    check_command(command(), spec(), after=4, now=9.5)
    with pytest.raises(Rejected):
        check_command(command(**changes), spec(), after=4, now=9.5)


def test_an_acknowledgement_says_who_and_what() -> None:
    OperatorAck("Ada", "workspace clear")
    with pytest.raises(NotAcknowledged):
        OperatorAck("Ada", " ")


def test_a_body_follows_its_set_point_and_falls_without_torque() -> None:
    # The FR3's controller carries its own weight, but not a payload's.
    body = Body("fr3", Flaws(payload=1.0))
    home = body.data.qpos.copy()
    body.torque(True)
    body.aim(home + 0.1)
    body.advance(1.0)
    # A kilogram half a metre out pulls with 5 N m on the shoulder's 600 N m/rad: under 0.01 rad.
    np.testing.assert_allclose(body.data.qpos, home + 0.1, atol=0.05)
    body.torque(False)
    before = body.data.qpos.copy()
    body.advance(0.5)
    assert np.abs(body.data.qpos - before).max() > 0.1


def test_backlash_hides_a_turn_smaller_than_itself() -> None:
    body = Body("fr3", Flaws(backlash=0.02))
    body.torque(True)
    seen = body.measure()[0]
    body.aim(body.setpoint + 0.005)  # within the half of the play
    body.advance(1.0)
    np.testing.assert_array_equal(body.measure()[0], seen)
    body.aim(body.setpoint + 0.095)
    body.advance(1.0)
    np.testing.assert_allclose(body.measure()[0] - seen, 0.09, atol=6e-3)
