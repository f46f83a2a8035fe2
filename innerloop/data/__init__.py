"""Puzzle data: formats, opening, inspection, hubs, leakage between sets, pictures."""
