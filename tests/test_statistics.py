"""Aggregates, against arithmetic done by hand."""

import numpy as np
import pytest

from metarl.statistics import interquartile_mean, interval


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


def test_seeds_are_resampled_within_their_task():
    # Two tasks that every seed scores alike: nothing varies between seeds, so nothing is uncertain.
    values = np.tile([0.0, 10.0], (5, 1))
    assert interval(values) == (5.0, 5.0)


def test_one_seed_speaks_of_tasks_alone():
    low, high = interval(np.array([[0.0, 1.0, 2.0, 3.0]]))
    assert 0 <= low < 1.5 < high <= 3 and low == pytest.approx(3 - high, abs=0.5)
