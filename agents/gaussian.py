"""Gaussians by their natural parameters: precision, and precision times mean."""

import torch
from torch import Tensor


def solved(precision: Tensor, weighted_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, L) of N(mean, 1/precision), and the precisions' Cholesky factors (B, L, L)."""
    # Unchecked: what is not finite must reach the guard before the optimiser, not raise here.
    root = torch.linalg.cholesky_ex(precision).L
    return torch.cholesky_solve(weighted_mean[..., None], root).squeeze(-1), root


def sample(precision: Tensor, weighted_mean: Tensor, noise: Tensor) -> Tensor:
    """Draws (B, L) of N(mean, 1/precision) at standard normal noise (B, L)."""
    mean, root = solved(precision, weighted_mean)
    spread = torch.linalg.solve_triangular(root.mT, noise[..., None], upper=True)
    return mean + spread.squeeze(-1)


def kl_to_prior(mean: Tensor, root: Tensor) -> Tensor:
    """KL(N(mean, 1/precision) || N(0, I)), (B,), of what `solved` returns."""
    trace = torch.cholesky_inverse(root).diagonal(dim1=-2, dim2=-1).sum(-1)
    log_determinant = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + mean.square().sum(-1) - mean.shape[-1] + log_determinant)
