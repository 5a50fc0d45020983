"""Aggregates, against arithmetic done by hand."""

import numpy as np
import pytest

from metarl.statistics import difference, interquartile_mean, interval, mean, stratified


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    # Of 8 values the lowest two (0, 1) and the highest two (6, 700) go: (2 + 3 + 4 + 5) / 4.
    assert interquartile_mean(np.array([5, 0, 700, 3, 1, 4, 6, 2.0])) == 3.5


def test_the_interval_of_equal_values_is_a_point():
    assert interval(np.full((3, 10), 4.0)) == (4.0, 4.0)


def test_the_interval_holds_the_mean_and_narrows_with_more_seeds():
    random = np.random.default_rng(0)
    few, many = random.normal(size=(3, 10)), random.normal(size=(30, 10))
    low, high = interval(few)
    assert low < interquartile_mean(few) < high
    narrow = interval(many)
    assert narrow[1] - narrow[0] < high - low


def test_tasks_that_every_seed_scores_alike_leave_nothing_uncertain():
    # Two tasks, 0 and 10 under each seed: a mean of 5 whichever seeds are drawn.
    values = np.tile([0.0, 10.0], (5, 1))
    assert interval(values) == (5.0, 5.0)


def test_a_seed_is_resampled_with_all_its_tasks():
    # Two seeds, 0 on each of 50 tasks and 1 on each. Of 4 draws of two seeds one is 0, one is 1 and
    # two are 0.5, so that the bootstrap's bounds are 0.5 -+ 0.5; of which two seeds make, with
    # Student's t for 1 degree of freedom, sqrt(2 / 1) * 12.706 / 1.960 = 9.168 times as much.
    values = np.repeat([[0.0], [1.0]], 50, 1)
    assert interval(values, aggregate=mean) == pytest.approx((0.5 - 4.584, 0.5 + 4.584), abs=1e-3)


def test_a_stratified_bootstrap_draws_each_task_by_itself():
    # The same two seeds: 100 independent draws of 0 or 1, whose mean has deviation 0.05.
    values = np.repeat([[0.0], [1.0]], 50, 1)
    low, high = stratified(values, aggregate=mean)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.012)
    # Never from one task to another: tasks that all seeds score alike leave nothing uncertain.
    assert stratified(np.tile([0.0, 10.0, 20.0], (4, 1)), aggregate=mean) == (10.0, 10.0)
    # Of one seed there is nothing to draw; the middle half of 0, 1, 2, 300 is that of 1 and 2.
    assert stratified(np.array([[0.0, 300.0, 2.0, 1.0]])) == (1.5, 1.5)


@pytest.mark.parametrize("seeds", [3, 5, 12])
@pytest.mark.parametrize("aggregate", [mean, interquartile_mean])
def test_of_95_percent_intervals_nineteen_in_twenty_hold_the_truth(seeds, aggregate):
    # A seed is one trained agent, better or worse on all of 20 tasks: N(0, 1) for each seed on top
    # of N(0, 0.5) for each task. The truth is 0. 400 studies: 380 +- 4.4, twice that allowed.
    random = np.random.default_rng(1)
    studies = random.normal(size=(400, seeds, 1)) + random.normal(0, 0.5, (400, seeds, 20))
    found = [interval(values, resamples=500, aggregate=aggregate) for values in studies]
    assert 371 <= sum(low <= 0 <= high for low, high in found) <= 389


def test_agents_that_differ_by_chance_of_their_seeds_are_rarely_told_apart():
    # As above for two agents, 5 seeds each, that are equally good: 0 lies outside in 1 of 20.
    random = np.random.default_rng(2)
    studies = random.normal(size=(400, 2, 5, 1)) + random.normal(0, 0.5, (400, 2, 5, 20))
    found = [difference(mine, theirs, resamples=500) for mine, theirs in studies]
    assert sum(low > 0 or high < 0 for low, high in found) <= 20 + 9


def test_one_seed_speaks_of_tasks_alone():
    low, high = interval(np.array([[0.0, 1.0, 2.0, 3.0]]))
    assert 0 <= low < 1.5 < high <= 3 and low == pytest.approx(3 - high, abs=0.5)


def test_the_interval_of_a_mean_is_that_of_the_binomial_nearly():
    # 50 successes of 100 tasks under one seed: 0.5 +- 1.96 * sqrt(0.25 / 100) = 0.5 +- 0.098.
    low, high = interval(np.repeat([0.0, 1.0], 50)[None], aggregate=mean)
    assert low == pytest.approx(0.402, abs=0.015) and high == pytest.approx(0.598, abs=0.015)


def test_a_difference_lies_above_zero_where_one_is_surely_better():
    # Seeds that agree leave nothing to chance: the interval is the difference itself.
    better, worse = np.full((3, 4), 5.0), np.full((2, 4), 2.0)
    assert difference(better, worse) == (3.0, 3.0)
    noise = np.random.default_rng(0).normal(size=(2, 5, 40))
    low, high = difference(noise[0], noise[1])
    assert low < 0 < high
