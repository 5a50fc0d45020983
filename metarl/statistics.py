"""Aggregates that small samples can bear: interquartile means and bootstrap intervals.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def interquartile_mean(values: Array) -> float:
    """The mean of the middle half of all values; a quarter of them is cut off at each end."""
    return float(_middle(np.ravel(values)))


def mean(values: Array) -> float:
    """The mean of all values: of successes, 0 or 1, whose middle half says little."""
    return float(np.mean(values))


Aggregate = Callable[[Array], float]  # interquartile_mean or mean
# 97.5th percentiles: of the normal distribution, and of Student's t with 1, 2 ... 10 degrees of
# freedom.
_NORMAL = 1.960
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def interval(
    values: Array, seed: int = 0, resamples: int = 2000,
    aggregate: Aggregate = interquartile_mean,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of an aggregate of values (S, M), M tasks under S seeds.

    A seed is one trained agent, judged on all the tasks: seeds are resampled whole, and the
    interval speaks of other trainings, judged on these very tasks. With one seed there is nothing
    to resample but the tasks, and it speaks of other tasks alone.
    """
    return _bounds(_resampled(values, seed, resamples, aggregate))


def stratified(
    values: Array, seed: int = 0, resamples: int = 2000,
    aggregate: Aggregate = interquartile_mean,
) -> tuple[float, float]:
    """The 95 % stratified bootstrap interval over seeds and tasks of an aggregate of values (S, M),
    as Agarwal et al. have it, and who publishes by their `rliable`: each task's S scores are drawn
    anew among themselves. What a seed is better or worse by on all its tasks averages out in that:
    of few seeds it is far narrower than `interval`, and none of one seed is wider than a point."""
    values = np.asarray(values, np.float64)
    seeds, tasks = values.shape
    rows = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds, tasks))
    drawn = np.take_along_axis(values[None], rows, 1).reshape(resamples, -1)
    return _bounds(_means(drawn) if aggregate is mean else _middle(drawn))


def difference(
    values: Array, others: Array, resamples: int = 2000,
    aggregate: Aggregate = interquartile_mean,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of how far an aggregate of values (S, M) lies above that of
    others (S', M), each resampled as in `interval`. Beyond zero at both ends, the one is better."""
    return _bounds(_resampled(values, 0, resamples, aggregate)
                   - _resampled(others, 1, resamples, aggregate))


def wilson(rate: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate seen in so many trials, each independent of the others (Wilson
    1927): one that saw nothing but successes may still have missed failures."""
    z2 = _NORMAL**2 / count
    centre, half = rate + z2 / 2, math.sqrt(z2 * (rate * (1 - rate) + z2 / 4))
    return (centre - half) / (1 + z2), (centre + half) / (1 + z2)


def spread(values: Array) -> NDArray[np.float64]:
    """How far the 95 % interval of the mean of S >= 2 seeds' values (S, K) reaches to either side,
    (K,), by Student's t."""
    seeds = len(values)
    return _student(seeds - 1) * np.std(values, 0, ddof=1) / math.sqrt(seeds)


def _resampled(
    values: Array, seed: int, resamples: int, aggregate: Aggregate
) -> Array:
    """The aggregate of each resample, (B,)."""
    values = np.atleast_2d(np.asarray(values, np.float64))
    seeds, tasks = values.shape
    random = np.random.default_rng(seed)
    summed = _means if aggregate is mean else _middle
    if seeds == 1:
        return summed(values[0, random.integers(tasks, size=(resamples, tasks))])
    # Task by task, seeds would look M times as many as they are: what a seed is better or worse by
    # on all its tasks would be averaged away.
    rows = random.integers(seeds, size=(resamples, seeds))
    found, centre = summed(values[rows].reshape(resamples, -1)), summed(values.ravel())
    # A bootstrap of few is too narrow: its variance is (S - 1) / S of what it should be, and its
    # bounds are those of the normal distribution where Student's are due.
    wider = math.sqrt(seeds / (seeds - 1)) * _student(seeds - 1) / _NORMAL
    return centre + wider * (found - centre)


def _student(freedom: int) -> float:
    """The 97.5th percentile of Student's t with so many degrees of freedom."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = _NORMAL  # Cornish and Fisher's expansion: beyond the table it is right to 0.003
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _means(values: Array) -> Array:
    return values.mean(-1)


def _middle(values: Array) -> Array:
    """The interquartile mean along the last axis."""
    ordered = np.sort(np.asarray(values, np.float64), -1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def _bounds(means: Array) -> tuple[float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def principal(vectors: Array) -> tuple[Array, Array]:
    """The two directions in which vectors (n, E) vary most: coordinates (n, 2), and the shares of
    the variance that they hold, (2,)."""
    centred = vectors - vectors.mean(0)
    if centred.shape[1] < 2:
        centred = np.pad(centred, ((0, 0), (0, 2 - centred.shape[1])))
    left, scales, right = np.linalg.svd(centred, full_matrices=False)
    # A direction and its opposite are the same: the sign that makes the largest weight positive.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    shares = scales**2 / max(float((scales**2).sum()), 1e-12)
    return (left * scales * signs)[:, :2], shares[:2]


def explained(values: Array, coordinates: Array) -> float:
    """The share of the variance of values (n,) that is linear in coordinates (n, 2)."""
    inputs = np.column_stack([coordinates, np.ones(len(values))])
    rest = values - inputs @ np.linalg.lstsq(inputs, values, rcond=None)[0]
    return float(1 - rest.var() / values.var()) if values.var() > 0 else 0.0


def dependence(values: Array, parameter: Array, bins: int = 4) -> float:
    """The share of the variance of values (n,) that lies between equally filled bins of a
    parameter (n,)."""
    if not values.var() > 0:
        return 0.0
    edges = np.quantile(parameter, np.linspace(0, 1, bins + 1)[1:-1])
    which = np.searchsorted(edges, parameter, side="right")
    between = sum(
        (which == b).sum() * (values[which == b].mean() - values.mean()) ** 2
        for b in np.unique(which)
    )
    return float(between / len(values) / values.var())
