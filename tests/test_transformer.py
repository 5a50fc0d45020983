"""RL2's transformer: what its cached keys and values must keep to."""

from typing import Any

import pytest
import torch
from test_agents import Line, lived, same
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents.rl2 import Config, Rl2
from metarl.agents.transformer import TransformerMemory, _Layer
from metarl.collect import Tasks, collect
from metarl.errors import UserError
from metarl.evaluate import evaluate
from metarl.randomness import Draws

SHAPES = Shapes(obs=3, action=2, task=1, horizon=5)
CPU = torch.device("cpu")
STEPS = 70  # more than two pieces of the cache


def memory(dtype: torch.dtype = torch.float64) -> TransformerMemory:
    return TransformerMemory(3, 8, 2, 2, torch.Generator().manual_seed(0)).to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(STEPS, 4, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def acted(memory: TransformerMemory, inputs: Tensor) -> Tensor:
    """The states (T + 1, N, S) that acting step by step goes through."""
    state, cache = inputs.new_zeros(inputs.shape[1], memory.size), ()
    states = [state]
    for step in inputs:
        state, cache = memory.step(step, state, cache)
        states.append(state)
    return torch.stack(states)


def agent(**changes: Any) -> Rl2:
    config: dict[str, Any] = {"tasks": 4, "replicas": 1, "memory": "transformer", "state": 8,
                              "hidden": 16, "minibatches": 2}
    return Rl2(Config(**(config | changes)), SHAPES, 0, CPU)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@torch.no_grad()
def test_acting_with_the_cache_equals_one_causal_pass_over_the_trial(
    dtype: torch.dtype, tolerance: float
) -> None:
    made, x = memory(dtype), inputs(dtype)
    torch.testing.assert_close(acted(made, x), made.trial(x), rtol=0, atol=tolerance)


@torch.no_grad()
def test_a_step_changes_no_state_before_it_and_all_after_it() -> None:
    made, x = memory(), inputs()
    other = x.clone()
    other[40] += 1.0
    # States come before steps: the 41st knows step 40.
    changed = (made.trial(x) != made.trial(other)).any(2).all(1)
    assert changed.nonzero().flatten().tolist() == list(range(41, STEPS + 1))


@torch.no_grad()
def test_what_one_row_lives_is_nothing_to_the_others() -> None:
    made, x = memory(), inputs()
    other = x.clone()
    other[:, 1] += 1.0
    for states in (made.trial, lambda x: acted(made, x)):
        changed = (states(x) != states(other))[1:].any(2).any(0)
        assert changed.tolist() == [False, True, False, False]


@torch.no_grad()
def test_a_step_does_not_change_the_belief_that_it_came_after() -> None:
    made, x = memory(), inputs()
    state, cache = made.step(x[0], torch.zeros(4, 8), ())
    one, _ = made.step(x[1], state, cache)
    made.step(x[2], state, cache)
    again, _ = made.step(x[1], state, cache)
    assert torch.equal(one, again)


@torch.no_grad()
def test_steps_count_the_less_the_further_back_they_are() -> None:
    # Two heads have slopes 2^-4 and 2^-8; of three steps the last two ask.
    layer = memory(torch.float32).layers[0]
    assert isinstance(layer, _Layer)
    distance = layer._distance(2, 3)
    far = -torch.inf
    assert (distance[0] * 16).tolist() == [[-1, 0, far], [-2, -1, 0]]
    assert (distance[1] * 256).tolist() == [[-1, 0, far], [-2, -1, 0]]


def test_an_agent_infers_step_by_step_what_it_learns_from() -> None:
    made = agent()
    trial = lived(made)
    made.normalizer.update(trial.obs)
    made.scale.update(trial.reward[..., None])
    states = made.memory.trial(made._inputs(trial.obs, trial.action, trial.reward, trial.last))
    belief = made.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in range(len(trial)):
        torch.testing.assert_close(belief.state, states[t])
        belief = made.infer(belief, trial.step(t))
    torch.testing.assert_close(belief.state, states[-1])


def test_a_packed_belief_goes_on_as_the_one_that_was_packed() -> None:
    made = agent()
    trial = lived(made)
    belief = made.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in range(len(trial)):
        belief = made.infer(belief, trial.step(t))
    one, other = belief, made.unpack(made.pack(belief))
    for t in range(3):
        one, other = made.infer(one, trial.step(t)), made.infer(other, trial.step(t))
    torch.testing.assert_close(one.state, other.state)
    assert (one.state != belief.state).any()


def test_it_goes_on_bit_for_bit_from_a_stored_state() -> None:
    made, successor = agent(), Rl2(agent().config, SHAPES, 1, CPU)  # of other weights
    made.learn(lived(made), 0, 0)
    successor.load_state({name: tensor.clone() for name, tensor in made.state().items()})
    for each in (made, successor):
        each.learn(lived(each, 1), 0, 1)
    assert same(made.state(), successor.state())


def test_heads_that_do_not_share_the_state_evenly_are_refused() -> None:
    with pytest.raises(UserError, match=r"--config\.state 8 does not divide into"):
        agent(heads=3)


def test_after_training_the_second_episode_knows_where_to_go() -> None:
    made = agent(tasks=32, replicas=2, attention_layers=1, state=32, hidden=32, rate=2e-3,
                 discount=0.9, std=0.5, epochs=4, minibatches=4)
    tasks = torch.linspace(-1, 1, 32)[:, None].double()
    worlds = Line(64)
    for iteration in range(30):
        draws = Draws.of(0, iteration, 32, 2)
        trial, _ = collect(worlds, made, Tasks(tasks, torch.arange(32), 2), 2, draws)
        made.learn(trial, 0, iteration)
    result = evaluate(worlds, made, tasks, 2, seed=0)
    # Standing still costs 5 x 0.516 = 2.6 on average.
    assert result.before > -2.6
    assert result.after > -1.2
