"""How step sizes, and other settings, shrink as training goes on."""


def annealed(value: float, done: int, steps: int) -> float:
    """A value that shrinks in a straight line to a tenth within so many steps; 0: it stays."""
    return value * (1 - 0.9 * min(done / steps, 1) if steps else 1.0)
