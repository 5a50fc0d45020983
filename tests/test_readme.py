"""The README's own examples work as they stand."""

import re
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import metarl
from metarl.__main__ import main
from metarl.envs.engine import BatchEngine
from metarl.envs.family import sample_tasks
from metarl.robot.arm import Mode, OperatorAck
from metarl.robot.client import start_guard
from metarl.robot.link import Phase
from metarl.run import find

README = (Path(__file__).parents[1] / "README.md").read_text()


def example(word):
    """The one block of Python that holds this word."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The examples of a family, an agent and an arm, in files as the README calls them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("slider", "plain", "rig"):
        (tmp_path / f"{name}.py").write_text(example(f"class {name.capitalize()}("))
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_example_family_trains_from_the_command_line(written, capsys):
    assert main(["check", "slider:Slider"]) == 0
    command = "train pearl slider:Slider --steps 400 --config.tasks 5 --config.updates 2 --json"
    assert main([*command.split()]) == 0
    assert '"done"' in capsys.readouterr().out
    from slider import Slider  # pyright: ignore[reportMissingImports]

    family = Slider()
    heavy = sample_tasks(family, "ood", 1)[0]
    model = BatchEngine(family, 1, threads=1).compile(heavy)
    assert torch.isclose(torch.tensor(model.body("cart").mass[0]).double(), heavy[1])
    # Its films show all that can happen: the goals at both ends of the range, and the cart.
    assert model.ncam == 1 and model.nlight == 1
    assert family.marks({"goal": -1.0, "mass": 1.0}) == {"goal": (-1.0, 0, 0.15)}


def test_the_example_agent_does_all_that_an_agent_can(written, capsys):
    """Each command prints the next ones as they can be typed, plugins included."""
    words = ["train", "plain:Plain", "slider:Slider", "--steps", "10240"]
    assert main(words) == 0
    evaluate, adapt = re.findall(r"metarl (.*--plugin.*)", capsys.readouterr().out)
    assert main(evaluate.split()) == 0 and "30 test tasks" in capsys.readouterr().out
    assert main(adapt.replace("name=value", "goal=0.5").split()) == 0
    told = capsys.readouterr().out
    (bundle,) = re.findall(r"metarl play (\S+) --plugin plain:Plain slider:Slider\n", told)
    assert f'metarl.load("{bundle}", plugins=[\'plain:Plain\', \'slider:Slider\'])' in told
    loaded = metarl.load(bundle, plugins=["plain:Plain", "slider:Slider"])
    assert loaded.agent.__class__ is sys.modules["plain"].Plain
    resume = f"resume {find('latest').words} --steps"
    assert main([*resume.split(), "10000"]) == 2  # a run cannot be shortened
    assert main([*resume.split(), "10240"]) == 0
    (longer,) = re.findall(r"metarl (resume .*--plugin.*)", capsys.readouterr().out)
    assert main(longer.split()) == 0 and find("latest").status["step"] == 20480


def test_the_example_arm_keeps_the_contract_and_goes_where_the_guard_lets_it(written, capsys):
    assert main(["robot", "check", "rig:Rig", "--yes"]) == 0
    told = capsys.readouterr().out
    assert told.count("ok ") == 15 and told.count("not checked") == 8  # nothing breaks its wire
    with start_guard("rig:Rig", {"port": "nowhere"}, live=True, policy_hz=20) as guard:
        link, end = guard.link(), time.monotonic() + 20
        link.enable(OperatorAck("a test", "it is numbers"))
        while ((report := link.report(2.0)).state.q < 0.005).any():
            assert time.monotonic() < end, report
            if report.phase is Phase.LATCHED:  # on a busy machine commands may come late
                link.unlatch(OperatorAck("a test", "it is numbers"))
            link.command(Mode.JOINT_VELOCITY, np.full(5, 0.1), expires_in_s=0.2)
        link.close()
    assert (report.state.q < 0.05).all()


def test_stable_baselines3_learns_on_worlds_as_shown(tmp_path):
    shorter = example("SB3VecEnv(").replace('"reach", 64', '"reach", 2').replace("100_000", "120")
    assert shorter.count("120") == shorter.count('"reach", 2') == 1
    (tmp_path / "shown.py").write_text(shorter)
    shown = runpy.run_path(str(tmp_path / "shown.py"))  # it learns from env step 100 on
    assert shown["model"].num_timesteps == 120
    first, second = shown["rows"].env.get_tasks()
    assert (first != second).all()
    actions, _ = shown["model"].predict(shown["rows"].reset())
    assert actions.shape == (2, 7)


def test_every_verb_that_the_readme_names_exists():
    from metarl.__main__ import VERBS

    named = set(re.findall(r"^metarl (\w+)", README, re.MULTILINE))
    assert named and named <= set(VERBS)
