"""The baselines on SB3's SAC: what they are given, what they see, and what they learn from it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_agents import CPU, SHAPES, Line, lived, same, tiny
from torch import Tensor

from metarl.agents import AGENTS
from metarl.agents.blind import Blind
from metarl.agents.blind import Config as BlindConfig
from metarl.agents.finetune import Config as FinetuneConfig
from metarl.agents.finetune import Finetune
from metarl.agents.oracle import Oracle
from metarl.agents.sb3 import STEP, Sac, SacConfig
from metarl.agents.scratch import Config as ScratchConfig
from metarl.agents.scratch import Scratch
from metarl.cli.train import Options
from metarl.collect import Tasks, collect
from metarl.envs import FAMILIES
from metarl.evaluate import EVALUATION, evaluate
from metarl.presets import PRESETS, preset
from metarl.randomness import Draws
from metarl.trial import Steps, Trial

SMALL = {"hidden": 16}


def steps(rewards: list[float], **more: Tensor) -> Steps:
    """Steps (S, ...) whose observations count them: 0, 1, 2, ..."""
    count = len(rewards)
    number = torch.arange(count + 1.0)[:, None].expand(-1, 3)
    never = torch.zeros(count, dtype=torch.bool)
    return replace(
        Steps(number[:-1], torch.full((count, 2), 0.5), torch.tensor(rewards), number[1:],
              never, never), **more,
    )


def sac(**more: Any) -> Sac:
    return Sac(SacConfig(**{**SMALL, **more}), 3, 2, 0, CPU)


def kept(agent: Sac, name: str) -> np.ndarray:
    """What SB3's replay holds, (S, ...)."""
    return agent.replay()[f"replay/{name}"].numpy()


# What SB3 is given.


def test_a_trial_goes_step_by_step_into_sb3s_replay() -> None:
    agent = tiny("blind")
    trial = lived(agent)  # 4 tasks, 2 episodes of 5 steps
    agent.learn(trial, 0, 0)
    assert len(agent.sac) == 40
    # The earliest first, and of each time the first task first: number 4 t + n is step t of row n.
    assert np.array_equal(kept(agent.sac, "observations")[4 * 7 + 2], trial.obs[7, 2].numpy())
    assert np.array_equal(kept(agent.sac, "next_observations")[30], trial.next_obs[7, 2].numpy())
    assert np.array_equal(kept(agent.sac, "actions")[30], trial.action[7, 2].numpy())
    assert kept(agent.sac, "rewards")[30] == trial.reward[7, 2]


def test_only_the_task_s_own_end_stops_the_bootstrap() -> None:
    agent = sac()
    end = torch.tensor([False, False, True, True])
    agent.learn(steps([1.0] * 4, last=end, terminated=torch.tensor([False, False, False, True])),
                updates=1, rate=1e-3, word=0, batch=16)
    # SB3 multiplies what follows by 1 - dones * (1 - timeouts): a time limit is bootstrapped.
    assert kept(agent, "dones").tolist() == [0, 0, 1, 1]
    assert kept(agent, "timeouts").tolist() == [0, 0, 1, 0]
    samples = agent.model.replay_buffer._get_samples(np.arange(4))  # pyright: ignore
    assert samples.dones[:, 0].tolist() == [0, 0, 0, 1]


def test_steps_that_are_not_finite_never_reach_the_replay() -> None:
    agent = sac()
    rewards = [1.0, torch.nan, 3.0, torch.inf]
    metrics = agent.learn(steps(rewards), updates=1, rate=1e-3, word=0, batch=16)
    assert kept(agent, "rewards").tolist() == [1, 3]
    assert metrics["health/nonfinite"] == 0.5


def test_a_critic_that_runs_away_is_put_back() -> None:
    agent = sac()
    before = agent.learner()
    metrics = agent.learn(steps([3e38] * 4), updates=2, rate=1e-3, word=0, batch=16)
    after = agent.learner()
    assert metrics["health/nonfinite"] == 1.0
    weights = [n for n in before if n.startswith(("actor/", "critic"))]
    assert all(torch.equal(before[n], after[n]) for n in weights)


def test_observations_are_normalised_for_acting_as_sb3_does_for_learning() -> None:
    agent = sac()
    agent.learn(steps([0.0] * 8), updates=1, rate=1e-3, word=0, batch=16)
    obs = torch.tensor([[0.0, 3.0, 100.0]])
    normal = agent._env.normalize_obs(obs.numpy())
    # Observations 0 ... 7: mean 3.5, variance 5.25, so that 3 lies 0.5 / sqrt(5.25) below.
    assert normal == pytest.approx(np.array([[-1.5275, -0.2182, 10.0]]), abs=1e-3)
    expected, _ = agent.model.policy.predict(normal, deterministic=True)
    assert torch.allclose(agent.act(obs, None), torch.as_tensor(expected), atol=1e-6)


def test_learning_depends_on_its_word_alone() -> None:
    def after(word: int, draws: int) -> dict[str, Tensor]:
        agent = sac()
        np.random.seed(draws)
        torch.manual_seed(draws)
        agent.learn(steps([1.0, 2.0, 3.0]), updates=2, rate=1e-3, word=word, batch=16)
        return agent.learner()

    assert same(after(0, draws=0), after(0, draws=1))
    assert not same(after(0, draws=0), after(1, draws=0))


# What they see.


def test_the_oracle_acts_on_the_task_and_the_blind_agent_does_not() -> None:
    def acted(name: str) -> list[Tensor]:
        agent = tiny(name)
        agent.learn(lived(agent), 0, 0)
        beliefs = [agent.prior(torch.full((4, 1), task), 1, Draws.of(0, 0, 4))
                   for task in (-1.0, 1.0)]
        return [agent.act(torch.zeros(4, 3), belief, None) for belief in beliefs]

    assert torch.equal(*acted("blind"))
    assert not torch.equal(*acted("oracle"))


def test_each_of_the_oracles_steps_carries_its_own_task() -> None:
    agent = tiny("oracle")
    trial = lived(agent)  # tasks -1, -1/3, 1/3, 1
    agent.learn(trial, 0, 0)
    expected = np.tile([-1, -1 / 3, 1 / 3, 1], 10)
    for name in ("observations", "next_observations"):
        assert kept(agent.sac, name)[:, 3] == pytest.approx(expected)


# Learning in a variant.


def judged(agent: Scratch, episodes: int, tasks: int = 2) -> tuple[Trial, Any]:
    """What the agent lives in so many tasks, as an evaluation has it, and its last belief."""
    values = torch.linspace(-1, 1, tasks)[:, None].double()
    return collect(Line(tasks), agent, Tasks(values, torch.arange(tasks)), episodes,
                   Draws.of(0, EVALUATION, tasks))


def scratch(**more: Any) -> Scratch:
    return Scratch(ScratchConfig(**{**SMALL, "adapt_updates": 0.6, **more}), SHAPES, 0, CPU)


def test_a_row_learns_from_exactly_what_it_has_lived() -> None:
    trial, belief = judged(scratch(), episodes=3)
    for i, learner in enumerate(belief.learners):
        assert torch.equal(learner["replay/observations"], trial.obs[:, i])
        assert torch.equal(learner["replay/rewards"], trial.reward[:, i])
        assert learner["moments/count"] == pytest.approx(15, abs=1e-3)  # each step once
    assert belief.lived == ()


def test_an_episode_is_learned_from_when_it_ends_and_by_no_other_row() -> None:
    agent = scratch()
    belief = agent.prior(torch.zeros(2, 1), 1, Draws.of(0, EVALUATION, 2))
    obs = torch.ones(2, 3)
    before = agent.act(obs, belief, None)
    for last in (False, True):
        belief = agent.infer(belief, steps([1.0, 2.0], last=torch.tensor([last, False])))
    after = agent.act(obs, belief, None)
    assert not torch.equal(before[0], after[0])
    assert torch.allclose(before[1], after[1], atol=1e-6)
    # The second row learns from all of its longer episode, the first from its new one of a step.
    belief = agent.infer(belief, steps([3.0, 5.0], last=torch.tensor([True, True])))
    assert belief.learners[0]["replay/rewards"].tolist() == [1, 1, 3]
    assert belief.learners[1]["replay/rewards"].tolist() == [2, 2, 5]


def test_learning_in_a_variant_leaves_the_agent_as_it_was() -> None:
    agent = tiny("finetune")
    agent.learn(lived(agent), 0, 0)
    before = agent.state()
    judged(agent, episodes=2)
    assert same(before, agent.state())


def test_while_it_is_trained_finetune_is_blind() -> None:
    agents = tiny("blind"), tiny("finetune")
    for iteration in range(2):
        for agent in agents:
            agent.learn(lived(agent, iteration), 0, iteration)
    assert same(agents[0].state(), agents[1].state())


def test_a_row_draws_for_itself_whatever_else_is_judged() -> None:
    def learners(tasks: int) -> Any:
        agent = scratch()
        belief = agent.prior(torch.zeros(tasks, 1), 1, Draws.of(0, EVALUATION, tasks))
        same_for_all = Steps(*(t[:1].expand(tasks, *t.shape[1:]) for t in (
            getattr(steps([1.0], last=torch.tensor([True])), name) for name in STEP
        )))
        return agent.infer(belief, same_for_all).learners

    alone, (first, second, _) = learners(1)[0], learners(3)
    assert same(alone, first)
    assert not same(first, second)


def test_a_packed_learner_goes_on_as_if_it_had_not_been_packed() -> None:
    agent = scratch()
    _, belief = judged(agent, episodes=1)
    one = agent.infer(belief, steps([1.0, 2.0]))  # packed within an episode
    other = agent.unpack(agent.pack(one))
    end = steps([3.0, 4.0], last=torch.tensor([True, True]))
    one, other = agent.infer(one, end), agent.infer(other, end)
    assert all(same(a, b) for a, b in zip(one.learners, other.learners, strict=True))
    assert one.learners[1]["replay/rewards"][-2:].tolist() == [2, 4]


def test_it_explores_in_the_first_episodes_of_a_variant_alone() -> None:
    agent = scratch(explore=1)
    belief = agent.prior(torch.zeros(1, 1), 1, Draws.of(0, EVALUATION, 1))
    obs, noise = torch.zeros(1, 3), torch.ones(1, 2)
    assert not torch.equal(agent.act(obs, belief, noise), agent.act(obs, belief, None))
    belief = agent.infer(belief, steps([1.0], last=torch.tensor([True])))
    assert torch.equal(agent.act(obs, belief, noise), agent.act(obs, belief, None))


# Learning at all.


def trained(agent: Any, iterations: int) -> Tensor:
    """The returns (K, M) on four tasks, after training on them."""
    for iteration in range(iterations):
        agent.learn(lived(agent, iteration), 0, iteration)
    tasks = torch.linspace(-1, 1, 4)[:, None].double()
    return evaluate(Line(4), agent, tasks, 3, seed=0).returns


def test_the_oracle_solves_the_line_that_the_blind_agent_cannot() -> None:
    more = {**SMALL, "tasks": 4, "updates": 40, "rate": 5e-3, "temperature": 0.02,
            "discount": 0.8, "batch": 32}
    config = BlindConfig(**more)
    told = trained(Oracle(config, SHAPES, 0, CPU), 4).mean()
    untold = trained(Blind(config, SHAPES, 0, CPU), 4).mean()
    # Going 0.3 a step straight to the goals at 1/3 and 1, and there, costs 0.03 and 0.7 + 0.4 +
    # 0.1: 0.62 on average. Who stays between the inner goals pays 5 (1 + 1/3 + 1/3 + 1) / 4 = 3.33.
    assert told > -1.1
    assert untold < -3.2


@pytest.mark.parametrize(("agent", "family"), PRESETS)
def test_a_preset_names_settings_that_exist(agent: str, family: str) -> None:
    found = preset(agent, family)
    FAMILIES[family](**found["family"])
    AGENTS[agent].Config(**found["config"])
    Options(**found["options"])


def test_presets_match_the_baselines_to_pearl() -> None:
    pearl, blind = preset("pearl", "reach"), preset("blind", "reach")
    assert blind["options"]["steps"] == pearl["options"]["steps"]
    assert blind["config"]["updates"] == pearl["config"]["updates"]
    BlindConfig(**blind["config"])
    FinetuneConfig(**preset("finetune", "reach")["config"])
    assert Finetune.Config is FinetuneConfig
    assert preset("scratch", "never heard of")["options"] == {"steps": 1}
    assert preset("rl2", "hopper-params") == {"options": {}, "config": {}, "family": {}}
