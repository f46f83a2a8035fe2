"""`probe`: whether a language model holds what it declares."""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from innerloop.cli.thinking import NO_FLAGS, ModelFlags, ModelName, worded_spending
from innerloop.ledger import counting
from innerloop.lm.probing import probe as findings_of
from innerloop.tokens.samples import spent_on

__all__ = ["probe"]

MARKS = {True: "holds", False: "fails", None: "unknown"}


def probe(model: ModelName, how: Annotated[ModelFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS) -> int:
    """Check by a few small calls what a language model can do: stop texts, seeds, log probabilities and the like.

    Example:  innerloop probe smollm2

    Args:
        model: A run that learned to write, a model of innerloop get, a file.gguf, the folder of a Hugging Face model,
            or MODEL@URL of an endpoint.
    """
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    opened = how.open(model)
    with counting() as cost:
        findings = findings_of(opened)
    for finding in findings:
        console.print(f"{finding.name:9} {MARKS[finding.holds]:8} {finding.said}", markup=False)
    console.print(worded_spending(spent_on(cost)), markup=False)
    return int(any(f.holds is False for f in findings))
