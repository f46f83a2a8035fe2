"""act and plan: a model that uses tools, and one that writes a plan before it does.    Kimi K2 2025, arXiv 2507.20534

    plan: multiply, then add the rest        only of `plan`: one call more, which computes nothing
    act: calc(17 * 23)                       the model ends its text with a call of a tool, which the host runs
    result: 391                              and whose result the host writes behind it
    The answer is 391.

`act` is the control of `plan`: does a plan pay for its tokens? A call that cannot be read, or of a tool that there is
not, is told to the model as its result, and counted. Grammar and tools are ours; the paper's model was trained for its.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from innerloop.errors import InputError
from innerloop.ledger import charge
from innerloop.lm.protocol import Prompt, need
from innerloop.text import did_you_mean
from innerloop.tokens.equality import exact
from innerloop.tokens.latex import read
from innerloop.tokens.prompts import BETWEEN, prompt_of
from innerloop.tokens.way import Asked, Said, State, Way, answered, subkey

__all__ = ["TOOLS", "Acting", "Tool", "calculate"]

Tool = Callable[[str], str]  # of what stands between the parentheses; raises ValueError that says what is wrong
ACT = re.compile(r"^[ \t>*-]*act:[ \t]*([A-Za-z_]\w*)[ \t]*\((.*)\)[ \t.]*$", re.MULTILINE)
MEANT = re.compile(r"^[ \t>*-]*act:.*$", re.MULTILINE)  # a call, be it one or not
RESULT = "result:"
TELL_PLAN = (
    "First write a plan and nothing else, in one line: which steps there are. Compute nothing yet. Begin with: plan:"
)
TELL_GO = "Now do it."
TELL_ACT = (
    "You have a calculator. To use it, write a line such as\nact: calc(12 * 3 + 1)\nand stop: you are told its result. "
    "When you know the answer, write: The answer is ..."
)


class Acting(Way):
    """Up to `n` calls of `tools`. plan: tokens of the plan that is written first; 0: none. A step is one call."""

    def __init__(
        self,
        model: Any,
        n: int = 8,
        *,
        plan: int = 0,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        tools: Mapping[str, Tool] | None = None,
        tell: str = TELL_ACT,
    ) -> None:
        if n < 1 or plan < 0:
            raise InputError(f"{n} actions after a plan of {plan} tokens: give 1 or more, and 0 or more")
        need(model, "stop", purpose="acting with tools")
        if getattr(model, "forms", None):
            raise InputError(f"{model.name} takes no instructions, so it cannot be told of tools: ask it in its modes")
        self.model, self.n, self.plan = model, n, plan
        self.max_new_tokens, self.temperature, self.tell = max_new_tokens, temperature, tell
        self.tools = TOOLS if tools is None else tools
        self.depth = n + 1 + bool(plan)

    # A state's memory: (what the model wrote, the result that followed or "") for every call so far, calls that failed
    def advance(self, s: State, x: Asked) -> State:
        turns, failed = s.memory or ((), 0)
        planning = bool(self.plan) and not turns
        prompt, stop = self.prompt(x, turns)
        completion = self.ask(
            prompt, max_new_tokens=self.plan if planning else self.max_new_tokens,
            stop=(*stop, RESULT, *(("\n",) if planning else ())), temperature=self.temperature,
            seed=subkey(s.key, "act", s.phase),
        )  # fmt: skip
        s = s._replace(phase=s.phase + 1)
        if planning:
            written = completion.text.strip()
            return s._replace(text=written, memory=(((written, f"{TELL_GO} {self.tell}"),), 0))
        call = MEANT.search(completion.text)
        if call is None or len(turns) - bool(self.plan) >= self.n:
            ended = answered(s._replace(text=""), x.item, completion, self.model)
            return ended._replace(text=self.joined(s.text, ended.text), memory=(turns, failed))
        written = completion.text[: call.end()].strip()
        result, ok = self.run(call.group())
        memory = ((*turns, (written, f"{RESULT} {result}")), failed + (not ok))
        return s._replace(text=self.joined(s.text, f"{written}\n{RESULT} {result}"), memory=memory)

    def prompt(self, x: Asked, turns: tuple[tuple[str, str], ...]) -> tuple[Prompt, tuple[str, ...]]:
        """The question, what was written and told so far, and where the next text ends."""
        prompt, stop = prompt_of(self.model, x.item, TELL_PLAN if self.plan else self.tell)
        for written, told in turns:
            if isinstance(prompt, str):
                prompt = f"{prompt} {written}\n{told}" + (BETWEEN if told.endswith(self.tell) else "\n")
            else:
                prompt = [*prompt, {"role": "assistant", "content": written}, {"role": "user", "content": told}]
        return prompt, stop

    def run(self, call: str) -> tuple[str, bool]:
        """(the result of a call as it is told to the model, whether there is one)."""
        charge(actions=1)
        found = ACT.search(call)
        if found is None:
            return "this is no call: write a line such as act: calc(2 + 3)", False
        name, argument = found.groups()
        if name not in self.tools:
            return f"there is no tool {name}: {did_you_mean(name, self.tools)}", False
        try:
            return self.tools[name](argument), True
        except ValueError as error:
            return str(error), False

    def joined(self, text: str, more: str) -> str:
        return f"{text}\n{more.strip()}" if text else more.strip()

    def read(self, s: State) -> Said:
        said = super().read(s)
        turns, failed = s.memory or ((), 0)
        said.details.update(actions=max(0, len(turns) - bool(self.plan)), failed_actions=failed)
        return said


def calculate(expression: str) -> str:
    """The exact value of an expression of numbers, + - * / and parentheses. Raises ValueError for any other."""
    node = read(expression.strip().removesuffix("="))
    value = None if node is None else exact(node)
    if value is None:
        raise ValueError("this is no expression of numbers, + - * / and parentheses that has a value")
    return str(value)


TOOLS: Mapping[str, Tool] = MappingProxyType({"calc": calculate})
