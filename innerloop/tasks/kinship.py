"""Kinship: who is the mother of the father of a? Facts stand in a shuffled stream; the chain follows them one by one.

    "cfd,amb,bfc,emd:a.mfc>"  ->  "b,c=c;"        "amb": the mother of a is b;   "a.mf": the father of the mother of a

Every person is one letter, and has at most one mother and one father in the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["Kinship"]

PEOPLE, RELATIONS = "abcdefghijklmnopqrstuvwxyz", "mf"


class Kinship(TextTask):
    """Questions of `hops` = (fewest, most) relations among `facts` facts about up to 26 people."""

    name = "kinship"
    rating_counts = "characters of the response"
    answer_kind = "text"

    def __init__(
        self,
        hops: tuple[int, int] = (1, 4),
        facts: int = 8,
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        few, many = (int(n) for n in hops)
        if not 1 <= few <= many <= facts <= 40 or many > 20:
            raise InputError(
                f"hops {few} to {many}, facts {facts}: give 1 to 20 hops, and as many facts or more, up to 40"
            )
        self.hops, self.facts = (few, many), facts
        self.setup(places or 4 * facts + 2 + many + 2 + 2 * many + 2, modes, hops=[few, many], facts=facts)

    def pose(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(self.hops[0], self.hops[1] + 1))
        path = rng.permutation(len(PEOPLE))[: count + 1].tolist()
        asked = "".join(RELATIONS[int(i)] for i in rng.integers(0, 2, count))
        known = {(path[i], asked[i]): path[i + 1] for i in range(count)}
        while len(known) < self.facts:
            person, other = (int(i) for i in rng.integers(0, len(PEOPLE), 2))
            if person != other:
                known.setdefault((person, RELATIONS[int(rng.integers(2))]), other)
        told = [f"{PEOPLE[a]}{relation}{PEOPLE[b]}" for (a, relation), b in known.items()]
        return f"{','.join(told[int(i)] for i in rng.permutation(len(told)))}:{PEOPLE[path[0]]}.{asked}"

    def explain(self, question: str) -> tuple[str, str] | None:
        told, _, asked = question.partition(":")
        person, dot, relations = asked.partition(".")
        facts = {fact[:2]: fact[2] for fact in told.split(",") if len(fact) == 3}
        if not (dot and relations and len(person) == 1):
            return None
        visited = []
        for relation in relations:
            if person + relation not in facts:
                return None
            person = facts[person + relation]
            visited.append(person)
        return ",".join(visited), person
