"""What runs scored, as arrays, against arithmetic done by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_report import GOAL, SHAPE, entry

from metarl import statistics
from metarl.scoreboard import (
    Entry,
    Range,
    Switched,
    bands,
    compared,
    distances,
    switched,
    values,
)


def test_success_is_summed_up_by_the_mean_and_return_by_the_middle_half(tmp_path: Path) -> None:
    each = [entry("pearl", seed, [0, 1, 1, 9.0], tmp_path) for seed in range(2)]
    # Eight numbers 0 0 1 1 1 1 9 9: the mean is 22 / 8; of the middle four, 1 1 1 1, it is 1.
    assert bands(each, "test", "exploiting", "success")[-1][0] == 2.75
    assert bands(each, "test", "exploiting", "return")[-1][0] == 1.0


def test_a_rate_of_success_lies_from_none_to_all(tmp_path: Path) -> None:
    each = [entry("pearl", seed, [seed] * 4, tmp_path) for seed in range(2)]
    # Two seeds, 0 and 1: by Student's t the interval would be -4 ... 5.
    assert bands(each, "test", "exploiting", "success")[-1] == (0.5, 0.0, 1.0)
    assert compared(each, each, "test", "success") == (-1.0, 1.0)


def test_only_tasks_that_all_seeds_have_and_survived_count(tmp_path: Path) -> None:
    whole, short = (entry("pearl", seed, [1, 2, 3, 4.0], tmp_path) for seed in range(2))
    curves = {"exploiting": {"return": np.array([[1, 2, np.nan]])}}
    short = replace(short, judged={"test": replace(short.judged["test"], curves=curves)})
    found = values([whole, short], "test", "exploiting", "return")
    # One episode in common, three tasks in common, of which one was lost under a seed.
    assert found.tolist() == [[[-9, -9], [1, 2]]]


def test_episodes_of_changing_trials_are_pooled_over_seeds_as_far_as_both_go() -> None:
    long, short = (Switched("test", 2, {"return": np.array(rows)}) for rows in (
        [[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]], [[3.0, 3.0], [7.0, np.nan]]))
    entries = [Entry("line", "pearl", seed, {}, Path("."), switched=(one,))
               for seed, one in enumerate((long, short))]
    # Of the first task, which both lived to the end: 1 and 3, then 5 and 7.
    bands = switched(entries, "test", 2, "return")
    assert [band[0] for band in bands] == [2.0, 6.0]
    assert switched(entries, "test", 3, "return") == []


def test_seeds_of_changing_trials_are_resampled_whole() -> None:
    # One agent earns 0 on all of 20 tasks, the other 1: two seeds that say next to nothing.
    entries = [Entry("line", "pearl", seed, {}, Path("."), switched=(
        Switched("test", 2, {"return": np.full((1, 20), float(seed))}),)) for seed in range(2)]
    (middle, low, high), = switched(entries, "test", 2, "return")
    assert middle == 0.5 and low < -4 and high > 5


def test_the_distance_from_the_training_range_counts_in_its_widths() -> None:
    other = Range("mass", "kg", (1.0, 2.0))
    tasks = np.array([[1.0, 1, 1.5], [8.0, 0, 1.5], [-2.0, 1, 1.0], [8.0, 0, 6.0]])
    # Goal 0 ... 2: 8 is three widths out, -2 one. Mass 1 ... 2: 6 is four out; 3, 4 -> 5.
    assert distances(tasks, (GOAL, SHAPE, other)).tolist() == [0, 3, 1, 5]


def test_what_is_drawn_by_its_logarithm_is_as_far_out_by_a_factor_either_way() -> None:
    scale = Range("scale", "", (0.5, 2.0), logarithmic=True)  # two factors of two wide
    far = distances(np.array([[1.0], [4.0], [0.25], [0.125]]), (scale,))
    assert far.tolist() == pytest.approx([0, 0.5, 0.5, 1])


def test_all_successes_leave_room_for_a_failure_that_was_not_seen(tmp_path: Path) -> None:
    each = [entry("pearl", seed, [1, 1, 1, 1.0], tmp_path) for seed in range(3)]
    # Wilson: of 12 successes in 12 trials the lower end is 1 / (1 + 1.96^2 / 12).
    assert bands(each, "test", "exploiting", "success")[-1] == (
        1.0, pytest.approx(1 / (1 + 1.96**2 / 12)), 1.0)


def test_two_axes_hold_what_varies_most_and_tell_what_is_linear_in_them() -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.column_stack([3 * np.cos(angle), np.zeros(40), np.sin(angle)])
    points, shares = statistics.principal(circle)
    assert shares.tolist() == pytest.approx([0.9, 0.1])  # 9 and 1 of 10
    assert np.allclose(abs(points[:, 0]), abs(circle[:, 0]))
    assert statistics.explained(np.cos(angle), points) == pytest.approx(1)
    assert statistics.explained(np.cos(2 * angle), points) == pytest.approx(0, abs=1e-9)


def test_performance_depends_on_the_parameter_that_parts_it() -> None:
    x, y = (part.ravel() for part in np.meshgrid(np.arange(8.0), np.arange(8.0)))
    assert statistics.dependence((x >= 4).astype(float), x) == pytest.approx(1)
    assert statistics.dependence((x >= 4).astype(float), y) == pytest.approx(0)
