"""Solving with a trained loop: batching engine, selection rules, verifiers, calibration, exact-solver fallback."""
