"""Loops in the tokens: ways of thinking in text, driven by `innerloop.think`."""
