"""Aggregates that small samples can bear: interquartile means and bootstrap intervals.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def interquartile_mean(values: NDArray[np.floating]) -> float:
    """The mean of the middle half of all values; a quarter of them is cut off at each end."""
    return float(_middle(np.ravel(values)))


def mean(values: NDArray[np.floating]) -> float:
    """The mean of all values: of successes, 0 or 1, whose middle half says little."""
    return float(np.mean(values))


Aggregate = Callable[[NDArray[np.floating]], float]  # interquartile_mean or mean


def interval(
    values: NDArray[np.floating], seed: int = 0, resamples: int = 2000, level: float = 0.95,
    aggregate: Aggregate = interquartile_mean,
) -> tuple[float, float]:
    """The bootstrap interval of an aggregate of values (S, M), M tasks under S seeds.

    Stratified: each task's S values are resampled among themselves. With one seed there is nothing
    to resample but the tasks, and the interval speaks of them alone.
    """
    return _bounds(_resampled(values, seed, resamples, aggregate), level)


def difference(
    values: NDArray[np.floating], others: NDArray[np.floating], resamples: int = 2000,
    level: float = 0.95, aggregate: Aggregate = interquartile_mean,
) -> tuple[float, float]:
    """The bootstrap interval of how far an aggregate of values (S, M) lies above that of others
    (S', M), each resampled as in `interval`. Beyond zero at both ends, the one is better."""
    return _bounds(_resampled(values, 0, resamples, aggregate)
                   - _resampled(others, 1, resamples, aggregate), level)


def _resampled(
    values: NDArray[np.floating], seed: int, resamples: int, aggregate: Aggregate
) -> NDArray[np.floating]:
    """The aggregate of each resample, (B,)."""
    values = np.atleast_2d(np.asarray(values, np.float64))
    seeds, tasks = values.shape
    random = np.random.default_rng(seed)
    if seeds == 1:
        drawn = values[0, random.integers(tasks, size=(resamples, tasks))]
    else:
        rows = random.integers(seeds, size=(resamples, seeds, tasks))
        drawn = np.take_along_axis(values[None], rows, 1).reshape(resamples, -1)
    return drawn.mean(1) if aggregate is mean else _middle(drawn)


def _middle(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The interquartile mean along the last axis."""
    ordered = np.sort(np.asarray(values, np.float64), -1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def _bounds(means: NDArray[np.floating], level: float) -> tuple[float, float]:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
