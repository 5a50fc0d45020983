"""The README's own example works as it stands."""

import re
import runpy
import sys
from pathlib import Path

import torch

from metarl.__main__ import main
from metarl.envs.engine import BatchEngine
from metarl.envs.family import sample_tasks

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_family_trains_from_the_command_line(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (example,) = [block for block in blocks if "class Slider" in block]
    (tmp_path / "slider.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slider", raising=False)
    assert main(["check", "slider:Slider"]) == 0
    command = "train pearl slider:Slider --steps 400 --config.tasks 5 --config.updates 2 --json"
    assert main([*command.split()]) == 0
    assert '"done"' in capsys.readouterr().out
    from slider import Slider  # pyright: ignore[reportMissingImports]

    family = Slider()
    heavy = sample_tasks(family, "ood", 1)[0]
    model = BatchEngine(family, 1, threads=1).compile(heavy)
    assert torch.isclose(torch.tensor(model.body("cart").mass[0]).double(), heavy[1])


def test_stable_baselines3_learns_on_worlds_as_shown(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (example,) = [block for block in blocks if "SB3VecEnv(" in block]
    shorter = example.replace('"reach", 64', '"reach", 2').replace("100_000", "120")
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
