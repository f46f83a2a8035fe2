"""The verbs of the command line, and the module that holds each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable

__all__ = ["VERBS", "function_name", "load"]

VERBS = {  # verb -> the file of this folder that holds its function, in the order people need them
    "demo": "demo",
    "list": "catalogue",
    "data": "inspecting",
    "show": "showing",
    "train": "training",
    "sweep": "sweeping",
    "eval": "judging",
    "solve": "solving",
    "worth": "weighing",
    "calibrate": "calibrating",
    "serve": "serving",
    "table": "tabulating",
    "plot": "drawing",
    "report": "drawing",
    "study": "studying",
    "check": "checking",
    "get": "getting",
    "probe": "probing",
    "ask": "asking",
    "compare": "comparing",
    "macros": "compressing",
    "import": "exchanging",
    "export": "exchanging",
}
RESERVED = ("list", "eval", "import")  # Python's own words: their functions end in "_"


def load(verb: str) -> Callable[..., Any]:
    """The function of a verb. Raises InputError naming the nearest for an unknown one."""
    if verb not in VERBS:
        raise InputError(f'there is no verb "{printable(verb, 60)}": {did_you_mean(verb, VERBS)}')
    module = importlib.import_module(f"innerloop.cli.{VERBS[verb]}")
    return getattr(module, function_name(verb))


def function_name(verb: str) -> str:
    return verb + "_" if verb in RESERVED else verb
