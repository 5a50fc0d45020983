"""Returns, advantages and the linear baseline, against hand arithmetic and slow references."""

import numpy as np
import torch

from metarl.agents.returns import (
    baseline_features,
    discounted,
    explained_variance,
    gae,
    linear_baseline,
    normalised,
)


def _column(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]  # (T, 1)


def _flags(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.bool)[:, None]


def test_a_return_is_the_discounted_sum_up_to_the_end_of_its_own_episode():
    returns = discounted(_column(1, 2, 4, 8), _flags(0, 0, 1, 1), 0.5)
    # 1 + 2/2 + 4/4 = 3; 2 + 4/2 = 4; 4; and 8 belongs to the next episode.
    assert returns[:, 0].tolist() == [3.0, 4.0, 4.0, 8.0]


def test_advantages_follow_the_arithmetic_by_hand():
    reward, value, following = _column(1, 1), _column(2, 3), _column(3, 5)
    none = _flags(0, 0)
    advantage = gae(reward, value, following, none, none, 0.5, 0.5)
    # Errors: 1 + 3/2 - 2 = 0.5 and 1 + 5/2 - 3 = 0.5; sums: 0.5 + 0.25 * 0.5 = 0.625 and 0.5.
    assert advantage[:, 0].tolist() == [0.625, 0.5]


def test_a_time_limit_bootstraps_and_a_terminal_does_not():
    reward, value, following = _column(1, 1), _column(0, 0), _column(4, 4)
    last = _flags(1, 1)
    limit = gae(reward, value, following, _flags(0, 0), last, 0.5, 1.0)
    terminal = gae(reward, value, following, _flags(1, 1), last, 0.5, 1.0)
    assert limit[:, 0].tolist() == [3.0, 3.0]  # 1 + 4/2, twice: the episodes do not run on
    assert terminal[:, 0].tolist() == [1.0, 1.0]


def test_advantages_equal_a_slow_reference():
    rng = np.random.default_rng(0)
    reward, value, following = rng.normal(size=(3, 12, 5))
    last = rng.random((12, 5)) < 0.3
    terminated = last & (rng.random((12, 5)) < 0.5)
    discount, decay = 0.9, 0.8
    expected = np.zeros((12, 5))
    for n in range(5):
        for t in range(12):
            weight = 1.0
            for k in range(t, 12):
                bootstrap = 0.0 if terminated[k, n] else following[k, n]
                expected[t, n] += weight * (reward[k, n] + discount * bootstrap - value[k, n])
                weight *= discount * decay
                if last[k, n]:
                    break
    found = gae(
        torch.from_numpy(reward), torch.from_numpy(value), torch.from_numpy(following),
        torch.from_numpy(terminated), torch.from_numpy(last), discount, decay,
    )
    assert np.allclose(found.numpy(), expected, atol=1e-12)


def test_normalised_advantages_ignore_what_is_not_valid():
    value = torch.tensor([[1.0, 3.0, 100.0], [5.0, 5.0, 5.0]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    # Task 0: mean 2, deviation 1. Task 1 is constant.
    assert torch.allclose(
        normalised(value, valid), torch.tensor([[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    )


def test_explained_variance_by_hand():
    target = torch.tensor([[0.0, 2.0, 50.0], [0.0, 2.0, 50.0], [1.0, 1.0, 50.0]])
    prediction = torch.tensor([[0.0, 2.0, 0.0], [0.5, 1.5, 0.0], [1.0, 1.0, 0.0]])
    valid = torch.tensor([[True, True, False]]).expand(3, 3)
    # Residuals of task 1 are -0.5 and 0.5: 1 - 0.25 / 1. Task 2's target does not vary.
    perfect, partial, undefined = explained_variance(prediction, target, valid).tolist()
    assert (perfect, partial) == (1.0, 0.75)
    assert np.isnan(undefined)


def test_the_features_are_those_of_the_linear_feature_baseline():
    features = baseline_features(torch.tensor([[3.0, -20.0]]), torch.tensor([50]))
    # o and o^2 clipped at 10, then t, t^2, t^3 at t = 50 / 100, then 1.
    expected = torch.tensor([[3.0, -10.0, 9.0, 100.0, 0.5, 0.25, 0.125, 1.0]])
    assert torch.equal(features, expected)


def test_the_baseline_of_all_tasks_at_once_is_least_squares_of_each():
    rng = np.random.default_rng(1)
    features, target = rng.normal(size=(3, 200, 6)), rng.normal(size=(3, 200))
    valid = rng.random((3, 200)) < 0.7
    found = linear_baseline(*(torch.from_numpy(x) for x in (features, target, valid))).numpy()
    for m in range(3):
        chosen = valid[m]
        solution = np.linalg.lstsq(features[m][chosen], target[m][chosen], rcond=None)[0]
        assert np.allclose(found[m], features[m] @ solution, atol=1e-6)


def test_a_task_whose_equations_are_singular_gets_more_regularisation_and_the_others_none():
    rng = np.random.default_rng(2)
    features = torch.from_numpy(rng.normal(size=(2, 50, 3)))
    target = torch.from_numpy(rng.normal(size=(2, 50)))
    valid = torch.ones(2, 50, dtype=torch.bool)
    alone = linear_baseline(features, target, valid)[0]
    # Beside 1e16, 1e-5 is lost to rounding: the copies stay exactly dependent.
    features[1] = 1e5 * features[1, :, :1]
    both = linear_baseline(features, target, valid)
    assert torch.equal(both[0], alone)
    column = features[1, :, 0]
    line = column * (column @ target[1]) / (column @ column)
    assert torch.allclose(both[1], line, atol=1e-4)
