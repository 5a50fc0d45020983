"""Gaussians by their natural parameters: precision, and precision times mean."""

import torch
from torch import Tensor


def mean(precision: Tensor, weighted_mean: Tensor) -> Tensor:
    """Means (B, L) of N(mean, 1/precision)."""
    root = torch.linalg.cholesky_ex(precision).L
    return torch.cholesky_solve(weighted_mean[..., None], root).squeeze(-1)


def sample(precision: Tensor, weighted_mean: Tensor, noise: Tensor) -> Tensor:
    """Draws (B, L) of N(mean, 1/precision) at standard normal noise (B, L)."""
    # Unchecked: what is not finite must reach the guard before the optimiser, not raise here.
    root = torch.linalg.cholesky_ex(precision).L
    centre = torch.cholesky_solve(weighted_mean[..., None], root)
    spread = torch.linalg.solve_triangular(root.mT, noise[..., None], upper=True)
    return (centre + spread).squeeze(-1)


def kl_to_prior(precision: Tensor, weighted_mean: Tensor) -> Tensor:
    """KL(N(mean, 1/precision) || N(0, I)), (B,)."""
    root = torch.linalg.cholesky_ex(precision).L
    centre = torch.cholesky_solve(weighted_mean[..., None], root).squeeze(-1)
    trace = torch.cholesky_inverse(root).diagonal(dim1=-2, dim2=-1).sum(-1)
    log_determinant = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + centre.square().sum(-1) - centre.shape[-1] + log_determinant)
