"""Real arms: the contract of an adapter, the guard that alone owns the port, drivers, and an
adaptation that is kept only where it has been shown to help.

Not a safety-rated system: keep the hardware stop in reach.
"""
