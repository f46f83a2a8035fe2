"""From a trained loop to answers that can be used: verifiers, the exact solver behind them, and what runs them."""
