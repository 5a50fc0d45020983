"""The page about runs and studies: its figures by hand, and that it stands alone."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from test_agents import Line, tiny
from tiny import train

from metarl import figures, look
from metarl.__main__ import main
from metarl.agent import Embeds
from metarl.agents import AGENTS
from metarl.cli.labels import told_apart
from metarl.cli.report import again, too_few, write
from metarl.cli.sections import family_sections, scores
from metarl.errors import DamagedFile
from metarl.evaluate import Apart, apart
from metarl.randomness import Draws
from metarl.report import Page, picture
from metarl.run import Run, find
from metarl.scoreboard import Entry, Judged, Range, compared, read
from metarl.study import Job, load
from metarl.trial import Steps

GOAL = Range("goal_x", "m", (0.0, 2.0))
SHAPE = Range("shape", "", (0.0, 1.0), (0.0, 1.0), ("box", "ring"))
TASKS = np.array([[0.1, 0], [0.9, 1], [1.5, 0], [1.9, 1]])


def judged(split: str, last: list[float], embedding: bool = False, **more: Any) -> Judged:
    """An evaluation of 4 tasks, after none and after 1 episode of exploration."""
    curves = {"success": np.array([[0.0] * 4, last]), "return": np.array([[-9.0] * 4, last])}
    tasks = TASKS + (2.0 if split == "ood" else 0.0) * np.array([1, 0])
    made = Judged(
        split, 100, tasks, (GOAL, SHAPE),
        {"exploiting": curves, "exploring": {n: c[:1] for n, c in curves.items()},
         "adapting": {n: c[:1] for n, c in curves.items()}},
        np.column_stack([tasks[:, 0], tasks[:, 1], tasks[:, 0]]) if embedding else None, 5, 1)
    return replace(made, **more)


def entry(label: str, seed: int, last: list[float], path: Path, **more: Any) -> Entry:
    metrics = tuple({"env_steps": n, "wall_s": n / 10, "eval/return_post": float(n)}
                    for n in (50, 100))
    parts = {split: judged(split, last, label == "pearl", **more) for split in ("test", "ood")}
    return Entry("reach", label, seed, parts, path / f"{label}{seed}", metrics)


def page(entries: list[Entry], path: Path) -> str:
    write(entries, path / "page.html")
    return (path / "page.html").read_text()


def table_of(entries: list[Entry], path: Path) -> str:
    """The table of scores alone, and what is said below it."""
    made, agents = Page("", ""), {e.label: [x for x in entries if x.label == e.label]
                                  for e in entries}
    scores(made, agents, ["success", "return"])
    made.write(path / "table.html")
    return (path / "table.html").read_text()


# Evaluation.


class Episodic(Line):
    """The line, where an episode pays 1 for every step before a row falls at its own time."""

    def __init__(self, rows: int, falls: Any) -> None:
        super().__init__(rows)
        self.falls = falls

    def reset(self, mask: Any = None, draws: Draws | None = None) -> torch.Tensor:
        self.age = 0
        return super().reset(mask, draws)

    def step(self, action: torch.Tensor) -> Steps:
        steps = super().step(action)
        self.age += 1
        fell = self.age % self.falls == 0
        return replace(steps, reward=torch.ones(self.rows), last=steps.last | fell)


class Diary:
    """What was done with an agent: exploring or not, and the ends that it was told of."""

    def __init__(self, agent: Any) -> None:
        self._agent, self.noisy, self.ends = agent, [], []
        if isinstance(agent, Embeds):  # from Python 3.12 on, protocols see no `__getattr__`
            self.embed = agent.embed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(self, obs: torch.Tensor, belief: Any, noise: Any) -> torch.Tensor:
        self.noisy.append(noise is not None)
        return self._agent.act(obs, belief, noise)

    def infer(self, belief: Any, step: Steps) -> Any:
        self.ends.append(bool(step.last.any()))
        return self._agent.infer(belief, step)


def judge(
    name: str, episodes: int = 2, worlds: Any = None, **settings: Any
) -> tuple[Apart, Diary]:
    agent = Diary(tiny(name, **settings))
    replicas = agent.plan.replicas
    tasks = torch.tensor([[-0.5], [0.0], [0.5]]).double()
    return apart(worlds or Line(3 * replicas), cast(Any, agent), tasks, episodes, seed=0), agent


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_is_judged_exploring_and_at_its_best(name: str) -> None:
    result, diary = judge(name)
    assert result.exploring.returns.shape == (2, 3)
    assert result.exploiting.returns.shape == (3, 3)  # before, after one, after two
    assert result.exploiting.returns.isfinite().all()
    # Horizon 5: its best, exploration, its best, exploration, its best.
    assert diary.noisy == [False] * 5 + [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5
    # The end of an episode of its best teaches it nothing: it is not even told.
    assert sum(diary.ends) == 2


@pytest.mark.parametrize("name", [n for n in AGENTS if isinstance(tiny(n), Embeds)
                                  and n != "maml"])
def test_a_belief_that_is_a_vector_is_kept_for_each_task(name: str) -> None:
    embedding = judge(name)[0].embedding
    assert embedding is not None and embedding.shape[0] == 3 and embedding.isfinite().all()


def test_all_that_remember_can_be_looked_at() -> None:
    assert {n for n in AGENTS if isinstance(tiny(n), Embeds)} == {
        "pearl", "rl2", "varibad", "recurrent-sac", "maml"}
    assert judge("blind")[0].embedding is None


def test_maml_shows_a_context_if_inner_steps_go_to_one() -> None:
    assert judge("maml")[0].embedding is None
    embedding = judge("maml", context_size=2)[0].embedding
    assert embedding is not None and embedding.shape == (3, 2)
    # Each task's own, which its steps have moved.
    assert len(embedding.unique(dim=0)) == 3 and embedding.abs().sum() > 0


def test_episodes_that_end_early_count_the_first_and_end_with_the_budget() -> None:
    # A row falls every 2 steps: of 5 steps the first episode has 2, which pay 2.
    result, diary = judge("pearl", episodes=1, worlds=Episodic(3, falls=2))
    assert (result.exploring.returns == 2).all() and (result.exploiting.returns == 2).all()
    # It explores for 5 steps, is told of both falls, and that the fifth step is the last.
    # Before, at its best, it was told of the 2 steps that ended nothing.
    assert diary.ends[:2] == [False, False]
    assert diary.ends[2:7] == [False, True, False, True, True]
    # Rows that fall at times of their own, after 2, 3 and 4 steps: of no end at its best.
    _, diary = judge("pearl", episodes=1, worlds=Episodic(3, falls=torch.tensor([2, 3, 4])))
    assert diary.ends == [False] * 4 + [False, True, True, True, True] + [False] * 4


def test_only_maml_pools_what_its_rollouts_live() -> None:
    assert [name for name in AGENTS if tiny(name).plan.pools] == ["maml"]


def test_tiles_hold_means_and_keep_to_the_training_range() -> None:
    edges = [figures._edges(TASKS[:, 0], GOAL), figures._edges(TASKS[:, 1], SHAPE)]
    assert edges[0].tolist() == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert edges[1].tolist() == [-0.5, 0.5, 1.5]
    tiles = figures._tiles(TASKS[:, 0], TASKS[:, 1], np.array([1.0, 2, 3, 4]), edges)
    nothing = np.nan
    assert np.array_equal(tiles, [[1, nothing, nothing, 3, nothing],
                                  [nothing, nothing, 2, nothing, 4]], equal_nan=True)
    assert figures._edges(np.array([-0.1, 2.5]), GOAL).tolist() == pytest.approx(
        [-0.4, 0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8])


def test_choices_that_are_numbers_have_a_tile_each() -> None:
    mass = Range("mass", "kg", (0.1, 0.9), (0.1, 0.5, 0.9))
    tasks = np.array([[0.1, 0], [0.5, 0], [0.9, 1]])
    earned = {"pearl": (tasks, np.array([1.0, 5, 9]))}
    figure, _ = figures.heat_maps(earned, (mass, SHAPE), "return")
    ax = figure.axes[0]
    assert {(each.get_position(), each.get_text()) for each in ax.texts} == {
        ((0.0, 0.0), "1"), ((1.0, 0.0), "5"), ((2.0, 1.0), "9")}
    assert [each.get_text() for each in ax.get_xticklabels()] == ["0.1", "0.5", "0.9"]


def limits(figure: Any, panel: int = 0) -> tuple[float, float]:
    low, high = figure.axes[panel].get_ylim()
    return low, high


def test_success_is_drawn_on_its_whole_scale_however_rare_it_is() -> None:
    rare = [(0.0, 0.0, 0.0), (0.001, 0.0, 0.003)]
    drawn = [
        figures.shot_curves({"success": [("", "", {"pearl": rare})]}, [0]),
        figures.switched_curves([("", 1, {"pearl": rare})], "success"),
        figures.distance_curves({"pearl": list(enumerate(rare))}, "success"),
        figures.heat_maps({"pearl": (TASKS[:, :1], np.zeros(4))}, (GOAL,), "success")[0],
    ]
    assert [limits(figure) for figure in drawn] == [(-0.02, 1.02)] * 4
    assert {figure.axes[0].get_ylabel() for figure in drawn} == {"success rate"}


def test_the_colours_of_success_go_from_nothing_to_all() -> None:
    figure, _ = figures.heat_maps({"pearl": (TASKS, np.zeros(4))}, (GOAL, SHAPE), "success")
    bar = figure.axes[-1]
    assert limits(figure, -1) == (0, 1) and bar.get_ylabel() == "success rate"
    text = {each.get_text(): each.get_color() for each in figure.axes[0].texts}
    assert list(text) == ["0.00"]


def test_returns_that_are_all_the_same_do_not_fill_the_scale_with_rounding() -> None:
    same = [(-50.0, -50.0, -50.0), (-50.0 + 1e-9, -50.0, -50.0)]
    curves = figures.shot_curves({"return": [("", "", {"pearl": same})]}, [0])
    assert limits(curves) == pytest.approx((-55, -45))  # a tenth to either side
    tiles, _ = figures.heat_maps({"pearl": (TASKS, np.full(4, -50.0))}, (GOAL, SHAPE), "return")
    assert limits(tiles, -1) == pytest.approx((-55, -45))
    nothing = (0.0, 0.0, 0.0)
    zero = figures.distance_curves({"pearl": [(0.0, nothing), (1.0, nothing)]}, "return")
    assert limits(zero) == (-0.5, 0.5)


def test_a_run_that_was_judged_once_in_training_says_so_beside_its_dot() -> None:
    once, twice = ((steps, steps / 10, -steps / 20)
                   for steps in (np.array([100.0]), np.array([100.0, 200.0])))
    said = figures.learning_curves({"pearl": [once]}, "return").axes[0]
    assert [each.get_text() for each in said.texts] == ["judged once: -5.0"]
    assert said.get_xlim()[0] == 0 and said.get_xlim()[1] > 100
    assert not figures.learning_curves({"pearl": [twice]}, "return").axes[0].texts


def test_the_words_beside_a_dot_stay_inside_the_axes_and_no_curve_is_cut_off_for_them() -> None:
    def run(*steps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(steps), np.array(steps), -np.array(steps)

    figure = figures.learning_curves({"maml": [run(100)], "pearl": [run(50, 1000)]}, "return")
    figure.canvas.draw()
    for ax in figure.axes:
        frame, (words,) = ax.get_window_extent(), ax.texts
        box = words.get_window_extent()
        assert frame.x0 < box.x0 and box.x1 < frame.x1 and ax.get_xlim()[1] >= ax.dataLim.x1


def test_five_seeds_are_drawn_as_the_interval_of_their_mean_and_four_as_a_line_each() -> None:
    steps = np.array([100.0, 200.0])
    runs = [(steps, steps, np.array([10.0, 20.0 + seed])) for seed in range(5)]
    few, many = (figures.learning_curves({"pearl": each}, "return").axes[0]
                 for each in (runs[:4], runs))
    assert len(few.lines) == 5 and not few.collections
    assert len(many.lines) == 1
    corners = many.collections[0].get_paths()[0].vertices
    # Student's t of 4 degrees of freedom, times sqrt(2.5) / sqrt(5), about the mean of 20 ... 24.
    assert corners[:, 1].max() == pytest.approx(22 + 2.776 * 0.5**0.5)
    assert corners[corners[:, 0] == 100.0][:, 1] == pytest.approx(10.0)


# The page.


def external(text: str) -> list[str]:
    """What in a page a browser would fetch: all but data, fragments and what is never asked for."""
    text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    found = re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']([^"']*)""", text)
    found += re.findall(r"""url\(\s*["']?([^)"']*)""", text) + re.findall(r"@import[^;]*", text)
    found += re.findall(r"https?://[^\s\"'<]*", text)
    return [what for what in found if not what.startswith(("data:", "#"))]


def test_the_page_fetches_nothing_runs_nothing_and_follows_light_and_dark(tmp_path: Path) -> None:
    each = [entry(label, seed, [0, 0, 1, 1.0], tmp_path) for label in ("pearl", "finetune")
            for seed in range(2)]
    text = page(each, tmp_path)
    assert external(text) == [] and "<script" not in text and "<link" not in text
    assert text.count("<svg") == 5  # k shots, learning, heat map, distance, beliefs
    drawn = text[text.index("</style></head>") :]
    for colour in (look.INK, look.MUTED, look.GRID, look.CARD):
        assert colour not in drawn  # light or dark is for the page to say
    assert external('<img src="http://a/b.png">') and external("<i style='a: url(x.png)'>")


def test_the_same_numbers_give_the_same_picture() -> None:
    drawn = [picture(figures.distance_curves({"pearl": [(0.0, (1.0, 0.5, 1.5))]}, "return"), "it")
             for _ in range(2)]
    assert drawn[0] == drawn[1] and 'aria-label="it"' in drawn[0]


def test_too_few_seeds_are_told_plainly(tmp_path: Path) -> None:
    each = [replace(entry("pearl", seed, [0, 0, 1, 1.0], tmp_path), config={}) for seed in range(5)]
    scripted = entry("scripted", 0, [1, 1, 1, 1.0], tmp_path)
    assert "4 seeds, fewer than 5" in too_few([*each[:4], scripted])
    assert "1 seed, fewer than 5" in too_few(each[:1])
    assert too_few([*each, scripted]) == ""


def test_the_table_says_where_fine_tuning_is_not_beaten(tmp_path: Path) -> None:
    def said(pearl: list[float], finetune: list[float] | None) -> str:
        each = [entry("pearl", s, pearl, tmp_path) for s in range(2)]
        each += [entry("finetune", s, finetune, tmp_path) for s in range(2) if finetune]
        return table_of(each, tmp_path)

    good, bad = [1.0, 1, 1, 1], [0.0, 0, 0, 0]
    assert "Every meta-agent beats plain fine-tuning" in said(good, bad)
    assert "does not beat plain fine-tuning here for pearl" in said(bad, good)
    assert "does not beat plain fine-tuning here for pearl" in said(good, good)
    assert "No fine-tuned baseline was run here" in said(good, None)
    mine, theirs = ([entry(n, 0, x, tmp_path)] for n, x in (("pearl", good), ("finetune", bad)))
    assert compared(mine, theirs, "test", "success") == (1.0, 1.0)


def test_one_seed_settles_nothing(tmp_path: Path) -> None:
    good, bad = [1.0, 1, 1, 1], [0.0, 0, 0, 0]
    each = [entry("pearl", 0, good, tmp_path), entry("finetune", 0, bad, tmp_path)]
    text = table_of(each, tmp_path)
    assert "Every meta-agent beats" not in text and "One seed, of pearl" in text
    assert "better in one seed" in text and 'class="better"' not in text


def test_agents_are_compared_after_as_many_rollouts(tmp_path: Path) -> None:
    # An episode of MAML's is three rollouts: fine-tuning has lived as much after three episodes.
    curves = {"return": np.array([[0.0] * 4, [1.0] * 4, [2.0] * 4, [3.0] * 4])}
    longer = {"exploiting": curves, "exploring": curves, "adapting": curves}
    mine = [entry("maml", seed, [7.0] * 4, tmp_path, rollouts=3) for seed in range(2)]
    theirs = [entry("finetune", seed, [1.0] * 4, tmp_path) for seed in range(2)]
    assert compared(mine, theirs, "test", "return") is None  # it was judged after one alone
    text = table_of([*mine, *theirs], tmp_path)
    assert "(maml 3, fine-tuning 1): agents are compared where both have lived as much" in text
    assert "with --episodes 3, takes it as far" in text and "beats plain" not in text
    theirs = [entry("finetune", seed, [1.0] * 4, tmp_path, curves=longer) for seed in range(2)]
    assert compared(mine, theirs, "test", "return") == (4.0, 4.0)  # 7 after one, 3 after three
    assert compared(theirs, mine, "test", "return") == (-4.0, -4.0)


def test_each_agent_is_held_against_the_fine_tuning_that_has_lived_as_much(tmp_path: Path) -> None:
    def seeds(label: str, last: list[float], **more: Any) -> list[Entry]:
        return [entry(label, seed, last, tmp_path, **more) for seed in range(2)]

    bad, good = [0.0] * 4, [1.0] * 4
    pearl, plain = seeds("pearl", good), seeds("finetune", bad)
    maml = seeds("maml", bad, rollouts=3)
    text = table_of([*pearl, *maml, *plain], tmp_path)
    assert "pearl: better than plain fine-tuning here" in text and "maml: not compared" in text
    earned = np.array([bad, bad, bad, good])
    curves = {"return": earned, "success": earned}
    longer = {"exploiting": curves, "exploring": curves, "adapting": curves}
    further = seeds("finetune (3 episodes)", good, curves=longer)
    text = table_of([*pearl, *maml, *plain, *further], tmp_path)
    assert "does not beat plain fine-tuning here for maml" in text
    assert "worse than finetune (3 episodes)" in text and "takes it as far" not in text
    assert "No fine-tuned baseline" not in table_of([*maml, *further], tmp_path)


def test_runs_with_other_settings_are_no_seeds_of_one_agent(tmp_path: Path) -> None:
    def run(seed: int, folder: str, **config: Any) -> Entry:
        made = entry("pearl", seed, [0, 0, 1, 1.0], tmp_path / folder)
        return replace(made, config={"seed": seed, "device": folder, "config": config})

    def labels(*each: Entry) -> list[str]:
        return [made.label for made in told_apart(each)]

    few, many, more = run(0, "a", tasks=5), run(0, "b", tasks=50), run(1, "c", tasks=50)
    assert labels(few, many, more) == ["pearl (tasks 5)", "pearl (tasks 50)", "pearl (tasks 50)"]
    assert labels(many, more) == ["pearl", "pearl"]
    again = run(0, "d", tasks=50)  # the same training twice is no second seed
    assert labels(many, replace(again, path=tmp_path / "later")) == ["pearl (pearl0)",
                                                                     "pearl (later)"]


def test_tasks_that_training_meets_all_are_not_called_new(tmp_path: Path) -> None:
    made = entry("pearl", 0, [0, 0, 1, 1.0], tmp_path)
    assert not made.familiar and "tasks that it had never met" in table_of([made], tmp_path)
    for ranges in ((SHAPE, SHAPE), (replace(SHAPE, held_out=True),), (GOAL,)):
        assert not entry("pearl", 0, [0, 0, 1, 1.0], tmp_path, ranges=ranges).familiar
    known = entry("pearl", 0, [0, 0, 1, 1.0], tmp_path, ranges=(SHAPE,), tasks=TASKS[:, 1:])
    assert known.familiar and "all of which training meets" in table_of([known], tmp_path)
    assert "never met" not in page([known], tmp_path)


def test_returns_of_longer_episodes_are_not_compared_in_silence(tmp_path: Path) -> None:
    each = [entry("pearl", 0, [0, 0, 1, 1.0], tmp_path),
            entry("maml", 0, [0, 0, 1, 1.0], tmp_path, horizon=10)]
    assert "Episodes differ in length (pearl 5, maml 10 control steps)" in table_of(each, tmp_path)
    assert "Episodes differ" not in table_of(each[:1], tmp_path)


def evaluation(path: Path, tasks: int, episodes: int, split: str = "test", usual: int = 20) -> None:
    """What `metarl evaluate --tasks N --episodes K` keeps, where each earns -N."""
    part = {"returns": [[-float(tasks)] * tasks] * (episodes + 1), "outcomes": {}}
    document = {
        "split": split, "checkpoint": 100, "horizon": 5, "rollouts": 1, "usual_tasks": usual,
        "ranges": [{"name": "goal_x", "unit": "m", "train": [0, 2], "values": [], "labels": []}],
        "tasks": [[1.0]] * tasks, "returns": [[0.0] * tasks] * episodes, "outcomes": {},
        "exploring": part, "exploiting": part}
    (path / "evaluations").mkdir(parents=True, exist_ok=True)
    name = f"{split}_step_100_k{episodes}_n{tasks}.json"
    (path / "evaluations" / name).write_text(json.dumps(document))


def test_the_evaluation_on_the_usual_tasks_with_most_episodes_counts(tmp_path: Path) -> None:
    for tasks, episodes in ((1, 1), (1000, 1), (20, 1), (20, 3), (5, 9)):
        evaluation(tmp_path, tasks, episodes)
    found = read(tmp_path, "any", "any", 0, None).judged["test"]
    assert (found.episodes, len(found.tasks)) == (3, 20)
    # Where none has the usual number of tasks, the one of most episodes.
    other = tmp_path / "other"
    for tasks, episodes in ((1, 1), (1000, 1), (5, 3)):
        evaluation(other, tasks, episodes)
    found = read(other, "any", "any", 0, None).judged["test"]
    assert (found.episodes, len(found.tasks)) == (3, 5)


def test_a_cell_that_was_judged_otherwise_says_how_and_is_warned_of(tmp_path: Path) -> None:
    for label, split, tasks, episodes in (
        ("pearl", "test", 1000, 1), ("pearl", "ood", 5, 3), ("maml", "test", 20, 3),
        ("maml", "ood", 20, 3),
    ):
        evaluation(tmp_path / label, tasks, episodes, split)
    each = [read(tmp_path / label, "reach", label, 0, None) for label in ("pearl", "maml")]
    text = table_of(each, tmp_path)
    assert "After 3 episodes in a new task" in text and "20 of a split" in text
    assert text.count("after 1 episode, in 1,000 tasks") == 1
    assert text.count("after 3 episodes, in 5 of 20 tasks") == 1
    assert "Not every evaluation has 3 episodes and 20 tasks (pearl, test: 1 episode, 1,000 " \
        "tasks; pearl, ood: 3 episodes, 5 tasks)" in text
    alike = table_of(each[1:], tmp_path)
    assert "Not every evaluation" not in alike and "after 3 episodes, in" not in alike


def test_a_page_about_one_episode_does_not_speak_of_more(tmp_path: Path) -> None:
    evaluation(tmp_path, 20, 1)
    assert "After 1 episode in a new task" in table_of(
        [read(tmp_path, "reach", "pearl", 0, None)], tmp_path)


def test_a_rival_that_was_trained_for_less_is_told(tmp_path: Path) -> None:
    each = [entry(name, 0, [0, 0, 1, 1.0], tmp_path) for name in ("pearl", "finetune")]
    assert "fewer env steps" not in table_of(each, tmp_path)
    each[1] = replace(each[1], metrics=({"env_steps": 80, "wall_s": 1.0},))  # 100 for pearl
    assert "fewer env steps of training than pearl" in table_of(each, tmp_path)


def test_figures_that_are_older_than_the_agent_are_told(tmp_path: Path) -> None:
    each = [entry("pearl", 0, [0, 0, 1, 1.0], tmp_path)]  # judged at 100 of 100 env steps
    assert "older than the agent" not in table_of(each, tmp_path)
    longer = replace(each[0], metrics=(*each[0].metrics, {"env_steps": 300, "wall_s": 1.0}))
    assert ("older than the agent: pearl, seed 0, test: at 100 of 300 env steps; pearl, seed 0, "
            "ood: at 100 of 300 env steps.") in table_of([longer], tmp_path)
    # The page's first words too.
    assert "Trained for 300 env steps, 0.0 minutes; put at env step 100 into" in page(
        [longer], tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"tasks": 3}'])
def test_an_evaluation_that_is_damaged_is_named(text: str, tmp_path: Path) -> None:
    evaluation(tmp_path, 20, 1)
    (tmp_path / "evaluations" / "test_other.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"test_other\.json (is not JSON|holds no|is no evalua)"):
        read(tmp_path, "reach", "pearl", 0, None)


@pytest.mark.parametrize(("family", "every", "wanted"), [
    ("reach", 0, ["--split test", "--split ood"]),
    ("reach", 2, ["--split test --switch-every 0", "--split ood --switch-every 0"]),
    ("ant-dir", 0, ["--split test"]),  # it has no others
])
def test_a_run_that_was_not_judged_is_shown_commands_that_judge_it(
    family: str, every: int, wanted: list[str], tmp_path: Path
) -> None:
    made = Page("", "")
    run = Run.create(tmp_path, {
        "agent": "pearl", "family": family, "seed": 0, "steps": 1, "device": "cpu", "config": {},
        "options": {}, "shapes": {}, "trial": {"switch_every": every}}, ["metarl"])
    family_sections(made, [Entry(family, "pearl", 0, {}, run.path, (), run.config)])
    made.write(tmp_path / "page.html")
    found = re.findall(rf"metarl evaluate {run.path} (.*?)[<\n]",
                       (tmp_path / "page.html").read_text())
    assert found == wanted


# The verb.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("runs")
    assert main(train(root, 2)) == 0
    return find("latest", root)


def test_a_run_that_was_not_judged_says_how_to_judge_it(trained: Run, tmp_path: Path) -> None:
    assert main(["report", str(trained.path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert f"metarl evaluate {trained.path} --split test" in text and external(text) == []
    assert "; not judged yet." in text
    assert "Some agents here" not in text and "This is a run of 1 seed" in text


def test_what_an_evaluation_keeps_suffices_for_the_page(
    trained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, seed in (("test", "0"), ("ood", "3")):
        words = ["evaluate", str(trained.path), "--split", split, "--tasks", "6", "--episodes", "1"]
        assert main([*words, "--seed", seed]) == 0
    assert main(["report", trained.name, "--runs", str(trained.path.parents[2])]) == 0
    text = (trained.path / "report.html").read_text()
    assert str(trained.path / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert text.count("<svg") == 5 and external(text) == []
    assert (trained.path / "command.txt").read_text().split()[-1] in text
    assert "1 seed, fewer than 5" in text
    # Whoever trains it anew judges what he has made, not the run that the page is about.
    runs = trained.path.parents[2]
    for split, more in (("test", ""), ("ood", " --seed 3")):
        line = f"metarl evaluate latest --runs {runs} --split {split} --episodes 1 --tasks 6{more}"
        assert re.search(f"^{re.escape(line)}(<|$)", text, re.MULTILINE)


def test_a_checkout_that_differed_from_its_commit_is_marked(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "reach" / "pearl" / trained.name
    shutil.copytree(trained.path, copy)
    environment = json.loads((copy / "env.json").read_text())
    (copy / "env.json").write_text(json.dumps(environment | {"commit": "1" * 40 + "+"}))
    assert main(["report", str(copy)]) == 0
    assert f"commits {'1' * 7}+;" in (copy / "report.html").read_text()


def test_the_command_of_a_study_does_the_jobs_that_are_shown(tmp_path: Path) -> None:
    study = tmp_path / "mine.py"
    study.write_text("from metarl.study import grid\n"
                     'STUDY = grid(["pearl", "rl2"], ["reach", "push"], range(4))\n')
    jobs = load(str(study))

    def done(*some: Job) -> str:
        for job in some:
            (tmp_path / job.key).mkdir(parents=True)
            (tmp_path / job.key / "done.json").touch()
        return again(str(study), tmp_path)

    first, *rest = [job for job in jobs if job.seed == 1]
    assert (first.agent, first.family) == ("pearl", "reach")
    where = f"--root {tmp_path}"
    assert done(first) == (f"metarl bench {study} --families reach --agents pearl --first-seed 1 "
                           f"--seeds 1 {where}")
    assert done(*rest) == f"metarl bench {study} --first-seed 1 --seeds 1 {where}"
    assert done(*[job for job in jobs if job.seed in (0, 2)]) == \
        f"metarl bench {study} --seeds 3 {where}"


def test_choices_stand_apart_and_no_line_leads_from_one_to_another() -> None:
    # Two agents, two choices: 0.25 is between the agents of a choice, 1 between the choices.
    earned = {name: (TASKS[:, 1:], np.arange(4.0)) for name in ("pearl", "rl2")}
    (ax,) = figures.heat_maps(earned, (SHAPE,), "return")[0].axes
    drawn = {str(line.get_label()): line for line in ax.get_lines()}
    assert np.allclose(drawn["pearl"].get_xdata(), [-0.125, -0.125, 0.875, 0.875])
    assert np.allclose(drawn["rl2"].get_xdata(), [0.125, 0.125, 1.125, 1.125])
    assert {line.get_linestyle() for line in drawn.values()} == {"None"}
    assert [text.get_text() for text in ax.get_xticklabels()] == ["box", "ring"]


def test_intervals_as_others_publish_them_are_beside(tmp_path: Path) -> None:
    one = [entry("pearl", 0, [1.0, 1, 1, 0], tmp_path)]
    assert "as others publish" not in table_of(one, tmp_path)
    # In a resample of 2 seeds x 4 tasks each task's two scores are 0 or 1 by halves: of 8 draws 4
    # hold 1 in the mean, and from 1 to 7 in 97 of 100.
    two = [*one, entry("pearl", 1, [0.0, 0, 0, 1], tmp_path)]
    text = table_of(two, tmp_path)
    assert "as others publish" in text
    assert '50 % <span class="range">[12 %, 88 %]' in text.split("as others publish")[1]


def test_trials_whose_tasks_change_are_drawn_by_themselves(
    trained: Run, tmp_path: Path
) -> None:
    words = ["evaluate", str(trained.path), "--split", "test", "--tasks", "6", "--episodes", "4",
             "--switch-every", "2"]
    assert main(words) == 0
    kept = read(trained.path, "any", "any", 0, trained).switched
    assert [(one.split, one.every, one.curves["return"].shape) for one in kept] == [
        ("test", 2, (4, 6))]
    assert main(["report", str(trained.path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "When the task changes" in text and "others after every 2 episodes" in text


@pytest.mark.parametrize(("words", "line"), [
    ("report", "RUN or STUDY missing"),
    ("report amrs", "unknown run or study 'amrs'; did you mean arms?"),
    ("report arms", "no job of arms is done in"),
    ("report latest", "begin with metarl train"),
])
def test_a_slip_is_answered_in_one_line(
    words: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs", str(tmp_path / "none"), "--root", str(tmp_path / "none")]
    assert main([*words.split(), *where]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and line in said.err
