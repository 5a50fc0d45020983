"""What a family computes with: numpy's arrays on the CPU, torch's tensors on a card.

A family is written once, in what both know: operators, indices, methods that have one name in both
(`sum`, `mean`, `clip`), and functions of `namespace(array)`. On the CPU that is numpy because calls
on arrays this small, each after a millisecond of physics, cost a third of what they do in torch.
"""

from typing import Any

import numpy as np
import torch

Array = np.ndarray  # or a torch tensor, which has what of it families use


def namespace(array: Array) -> Any:
    """The module whose functions take this array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else torch


def like(array: Array, constant: Array) -> Array:
    """A constant of numpy's as the kind of `array`, on its device."""
    if isinstance(array, np.ndarray):
        return constant
    return torch.asarray(constant, device=array.device)


def concatenate(*parts: Array) -> Array:
    """Columns of parts (N, ...) beside each other, (N, sum)."""
    return namespace(parts[0]).concatenate(parts, 1)


def stack(*columns: Array) -> Array:
    """Columns (N,) beside each other, (N, columns)."""
    return namespace(columns[0]).stack(columns, 1)


def length(vectors: Array, keepdims: bool = False) -> Array:
    """How long vectors (N, D) are, (N,), or (N, 1) with `keepdims`."""
    return sum_of_squares(vectors, keepdims) ** 0.5


def sum_of_squares(vectors: Array, keepdims: bool = False) -> Array:
    """Of each of (N, D), (N,), or (N, 1) with `keepdims`."""
    return (vectors * vectors).sum(1, keepdims=keepdims)


def cross(a: Array, b: Array) -> Array:
    """The cross product along the last axis of (..., 3)."""
    return a[..., _NEXT] * b[..., _BEFORE] - a[..., _BEFORE] * b[..., _NEXT]


_NEXT, _BEFORE = [1, 2, 0], [2, 0, 1]
