"""The shared arithmetic of networks: what numpy computes in torch's place is torch's, derivatives
included."""

import numpy as np
import pytest
import torch
from torch import nn

from metarl.agents.networks import Tanh, mlp, tanh


@pytest.mark.parametrize("x", [
    torch.linspace(-9, 9, 37),
    torch.zeros(0, 3),
    torch.linspace(-2, 2, 12).view(3, 4).T,  # not in the order of memory
])
def test_tanh_is_torchs(x: torch.Tensor) -> None:
    torch.testing.assert_close(tanh(x), x.tanh(), atol=1e-6, rtol=1e-6)


def test_tanh_has_derivatives_of_two_orders() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    y = tanh(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    by_hand = np.tanh(np.linspace(-2, 2, 9))
    np.testing.assert_allclose(slope.detach(), 1 - by_hand**2, rtol=1e-12)
    np.testing.assert_allclose(curvature, -2 * by_hand * (1 - by_hand**2), rtol=1e-12, atol=1e-15)


def test_tanh_leaves_what_it_is_given_as_it_is() -> None:
    x = torch.tensor([1.0, -1.0])
    tanh(x)
    assert x.tolist() == [1.0, -1.0]


def test_what_asks_for_no_gradient_has_none() -> None:
    weight = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not tanh(weight).requires_grad
    assert not tanh(torch.ones(2)).requires_grad


def test_a_network_learns_through_it() -> None:
    rng = torch.Generator().manual_seed(0)
    network, x = mlp([3, 4, 1], rng, Tanh), torch.randn(5, 3, generator=rng)
    first, second = network[0], network[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    expected = second((x @ first.weight.T + first.bias).tanh())
    torch.testing.assert_close(network(x), expected)
    ours = torch.autograd.grad(network(x).sum(), first.weight)[0]
    torchs = torch.autograd.grad(expected.sum(), first.weight)[0]
    torch.testing.assert_close(ours, torchs)
