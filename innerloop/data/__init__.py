"""Puzzle data: formats, opening, hubs, leakage between sets, pictures."""
