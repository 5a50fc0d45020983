"""The arithmetic of trust regions: pure functions of vectors and of products with a curvature."""

from collections.abc import Callable

from torch import Tensor, zeros_like

Product = Callable[[Tensor], Tensor]


def natural_step(gradient: Tensor, product: Product, bound: float, iterations: int) -> Tensor:
    """The step (P,) uphill that is steepest where the curvature `product` measures distance, so
    long that the quadratic model of the divergence, x . product(x) / 2, reaches `bound`; no step
    where there is no slope.

    Schulman et al., "Trust Region Policy Optimization" (2015), appendix C.
    """
    if not gradient.any():
        return gradient
    direction, image = conjugate_gradient(product, gradient, iterations)
    return direction * (2 * bound / direction.dot(image)).sqrt()


def conjugate_gradient(
    product: Product, target: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """An x with product(x) = target, for a positive definite product, and its own product."""
    x, residual, direction = zeros_like(target), target, target
    squared = residual.dot(residual)
    for _ in range(iterations):
        image = product(direction)
        length = squared / direction.dot(image)
        x = x + length * direction
        residual = residual - length * image
        remaining = residual.dot(residual)
        direction = residual + remaining / squared * direction
        squared = remaining
        if squared <= 1e-10 * target.dot(target):
            break
    return x, target - residual
