"""What a user might write: each public name once. Read by mypy (test_types.py), never run."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

import innerloop
from innerloop import recipes

if TYPE_CHECKING:
    from typing import reveal_type


class Dots:
    """A loop over texts."""

    def init(self, x: str) -> str:
        return x

    def step(self, s: str, x: str) -> str:
        return s + "."

    def read(self, s: str) -> int:
        return len(s)


# -- models by name ----------------------------------------------------------------------------------------------------
reveal_type(innerloop.list("systems"))
loop = innerloop.create("trm", task="sudoku", hidden_size=64)
reveal_type(loop)
opened = innerloop.open_run("demo-sudoku4")
reveal_type(opened)
reveal_type(opened.run)
reveal_type(opened.loop)
reveal_type(opened.task)
reveal_type(opened.folder)
reveal_type(innerloop.open_solver("demo-sudoku4"))

# -- thinking ----------------------------------------------------------------------------------------------------------
question = innerloop.Question(torch.zeros(2, 81, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
reveal_type(question)
thought = innerloop.think(loop, question, depth=4)
reveal_type(thought)
reveal_type(thought.answer)
reveal_type(thought.answer.logits)
reveal_type(innerloop.think(Dots(), "a", depth=3).answer)
reveal_type(innerloop.think(Dots(), "a", depth=3).state)
thoughts = innerloop.think_many(Dots(), ["a", "b"], depth=3, workers=2)
reveal_type(thoughts)
reveal_type(innerloop.vote(thoughts).answer)
noisy = innerloop.Noisy(loop, start=1.0)
reveal_type(noisy)
reveal_type(innerloop.think_wide(noisy, question, 4, innerloop.best(), depth=4).answer)
reveal_type(innerloop.best())
reveal_type(innerloop.repeat(lambda s: s + 1, torch.zeros(1), 3))
reveal_type(innerloop.run_schedule(("y", "z"), {"y": torch.sin, "z": torch.cos}, torch.zeros(1)))
reveal_type(innerloop.refill(question, torch.ones(2, dtype=torch.bool), question))
with innerloop.counting() as cost:
    reveal_type(cost)
reveal_type(innerloop.Ledger().nfe)

# -- data, training, evaluation ----------------------------------------------------------------------------------------
task, puzzles = innerloop.open_set("puzzles.csv")
reveal_type(task)
reveal_type(puzzles)
plan = innerloop.Plan(steps=10, halting=innerloop.HaltingConfig(max_steps=4))
reveal_type(plan)
reveal_type(plan.halting)
reveal_type(innerloop.train(loop, task, puzzles, plan, Path("runs/mine"), validation=puzzles, minutes=3))
reveal_type(innerloop.evaluate(loop, task, puzzles, depths=(1, 2)))
run = recipes.get("sudoku4")
reveal_type(run)
reveal_type(innerloop.fit(run, "runs/mine", until=100))
built = innerloop.build(run)
reveal_type(built)
reveal_type(built.loop)
reveal_type(built.task)
reveal_type(built.train)
reveal_type(innerloop.NetConfig().hidden_size)
reveal_type(innerloop.Run("mine", "trm", loop.c, innerloop.Data("sudoku")).data.count)

# -- solving -----------------------------------------------------------------------------------------------------------
solver = innerloop.Solver(loop, task)
solutions = solver.solve("." * 81, budget=innerloop.Budget(nfe=100, seconds=2))
reveal_type(solutions)
reveal_type(solutions[0].known)


# -- language models ---------------------------------------------------------------------------------------------------
model = innerloop.open_model("smollm2")
reveal_type(model.generate(["2 + 2 ="], max_new_tokens=4)[0].completions)


# -- names for signatures ----------------------------------------------------------------------------------------------
def use(
    loop: innerloop.Loop[innerloop.Question, torch.Tensor, innerloop.Answer],
    task: innerloop.Task,
    examples: innerloop.Examples,
    solution: innerloop.Solution,
    thought: innerloop.Thought[innerloop.Answer, torch.Tensor],
) -> None:
    reveal_type(loop.read(torch.zeros(1)))
    reveal_type(task.shape)
    reveal_type(examples.inputs)
    reveal_type(solution.text)
    reveal_type(thought.state)


bare: innerloop.Loop = Dots()
try:
    innerloop.think(bare, "a", depth=0)
except innerloop.SomeFailed as failed:
    reveal_type(failed.errors)
except innerloop.InputError as wrong:
    reveal_type(wrong)
