"""Aggregates that small samples can bear: interquartile means and bootstrap intervals.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021).
"""

import numpy as np
from numpy.typing import NDArray


def interquartile_mean(values: NDArray[np.floating]) -> float:
    """The mean of the middle half of all values; a quarter of them is cut off at each end."""
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def interval(
    values: NDArray[np.floating], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """The bootstrap interval of the interquartile mean of values (S, M), M tasks under S seeds.

    Stratified: each task's S values are resampled among themselves. With one seed there is nothing
    to resample but the tasks, and the interval speaks of them alone.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    seeds, tasks = values.shape
    random = np.random.default_rng(seed)
    if seeds == 1:
        drawn = values[0, random.integers(tasks, size=(resamples, tasks))]
    else:
        rows = random.integers(seeds, size=(resamples, seeds, tasks))
        drawn = np.take_along_axis(values[None], rows, 1).reshape(resamples, -1)
    ordered = np.sort(drawn, 1)
    cut = ordered.shape[1] // 4
    means = ordered[:, cut : ordered.shape[1] - cut].mean(1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
