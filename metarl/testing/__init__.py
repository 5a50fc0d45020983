"""What adapters of arms are tested with: protocol doubles that have physics behind them."""
