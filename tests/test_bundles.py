"""Bundles from strangers: sizes and types are compared before memory is set aside for them."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_agents import LEARNERS, SHAPES, lived, tiny

import metarl
from metarl import api, checkpoint
from metarl.agents import AGENTS
from metarl.agents.pearl import Config
from metarl.envs.sim2real import Sim2Real
from metarl.errors import DamagedFile, UserError
from metarl.policy import BUNDLE, check_sizes
from metarl.settings import build_config

POLICY = Path(__file__).parent / "policies" / "reach_fr3"


def forged(path: Path, **changes: Any) -> Path:
    """A bundle with other words, or other tensors by stem, under a manifest that fits it."""
    tensors, documents = checkpoint.read(POLICY)
    for stem in ("policy", "belief"):
        tensors[stem] = {**tensors[stem], **changes.pop(stem, {})}
    about = documents[BUNDLE] | changes
    checkpoint.write(path, tensors, {BUNDLE: {k: v for k, v in about.items() if v is not None}})
    return path


def with_config(**changes: Any) -> dict[str, Any]:
    return {"config": checkpoint.read(POLICY)[1][BUNDLE]["config"] | changes}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_compared_with_its_bundle_without_memory(name: str) -> None:
    agent = tiny(name)
    if name in LEARNERS:
        agent.learn(lived(agent), 0, 0)
    make = partial(api.build_agent, name, asdict(agent.config), SHAPES, 0)
    check_sizes(make, agent.policy_state())
    # A layer of 10^6 by 10^6 numbers would be 3.6 TiB.
    vast = partial(api.build_agent, name, asdict(agent.config) | {"hidden": 10**6}, SHAPES, 0)
    with pytest.raises(DamagedFile, match=r"its settings ask for .*1000000"):
        check_sizes(vast, agent.policy_state())


@pytest.mark.parametrize(("changes", "line"), [
    (with_config(hidden=10**6), r"actor/0.weight of the bundle's policy has shape \(128, 23\)"),
    (with_config(predictor_hidden=10**6), "ask for an agent of .* MiB; 1,024 MiB are allowed"),
    (with_config(latent=7), "has shape"),
    ({"shapes": {"obs": 10**6, "action": 7, "task": 6, "horizon": 50}}, "has shape"),
    ({"policy": {"actor/0.bias": torch.zeros(3)}}, "has shape"),
])
def test_sizes_that_do_not_fit_are_told_before_the_agent_is_made(
    changes: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, build = list[str](), api.build_device
    monkeypatch.setattr(api, "build_device", lambda name: devices.append(name) or build(name))
    with pytest.raises(DamagedFile, match=line):
        metarl.load(forged(tmp_path / "b", **changes))
    assert devices == ["meta"]


@pytest.mark.parametrize("changes", [
    {"belief": {"z": torch.zeros(1, 3)}}, {"agent": None}, {"seed": [1]},
    {"shapes": None}, {"shapes": {"obs": 17}}, {"config": 3},
    {"shapes": {"obs": "17", "action": 7, "task": 6, "horizon": 50}},
])
def test_a_bundle_that_makes_no_sense_is_damaged_whatever_its_hashes_say(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DamagedFile, match=r"does not hold what its bundle\.json says"):
        metarl.load(forged(tmp_path / "b", **changes))


@pytest.mark.parametrize("rows", [None, "many", 0, 10**9])
def test_a_belief_has_a_number_of_rows_that_can_act(rows: Any, tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="says that its belief has"):
        metarl.load(forged(tmp_path / "b", replicas=rows))


@pytest.mark.parametrize(("changes", "wanted"), [
    ({"hidden": "128"}, "int"), ({"hidden": 128.5}, "int"), ({"hidden": True}, "int"),
    ({"hidden": [1, 2]}, "int"), ({"discount": "0.9"}, "float"), ({"discount": None}, "float"),
    ({"context_next_obs": 1}, "bool"),
])
def test_a_setting_of_another_type_is_told_in_one_line(
    changes: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"which is not of type {wanted}$"):
        metarl.load(forged(tmp_path / "b", **with_config(**changes)))


def test_a_float_may_be_a_whole_number_and_a_tuple_a_list() -> None:
    assert build_config("setting", Config, {"discount": 1}).discount == 1
    assert build_config("flaw", Sim2Real, {"backlash": [0, 0.1]}).backlash == (0, 0.1)
    for wrong in ([0.1], [0, "0.1"], 0.1):
        with pytest.raises(UserError, match=r"not of type tuple\[float, float\]"):
            build_config("flaw", Sim2Real, {"backlash": wrong})
