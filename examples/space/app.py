"""A Hugging Face Space in one file: choose a model, give it a puzzle, watch it think. Gradio draws, innerloop thinks.

    pip install innerloop gradio
    python examples/space/app.py

MODEL in the environment adds a model of your own: a NAME.safetensors, or the folder of a run.
"""

from __future__ import annotations

import functools
import os
import secrets

import numpy as np
import torch

from innerloop import pretrained, think
from innerloop.core import Question
from innerloop.errors import InputError

DEEPEST = 128  # steps a visitor may ask for
STYLE = ".board svg {width: 100%; max-width: 420px; height: auto; display: block; margin: 0 auto}"


@functools.cache
def opened(name):
    return pretrained.open(name)


def choices():
    return [*([os.environ["MODEL"]] if os.environ.get("MODEL") else []), *pretrained.names()]


def another(name):
    """A puzzle the model has most likely not seen; nothing where its task makes none."""
    task = opened(name).task
    try:
        return task.decode(task.sample(secrets.randbelow(2**31), 0).question)
    except InputError:
        return ""


@torch.no_grad()
def thoughts(name, text, depth):
    """[(board as SVG, one line about it)] for the question and for every step of thought about it."""
    loop, task = opened(name).loop, opened(name).task
    question = task.encode(text.strip())
    boards = [(task.svg(question, question), "the puzzle")]

    def see(loop, state):
        answer = loop.read(state)
        tokens = answer.logits.argmax(-1)[0].numpy().astype(np.uint8)
        said = f"step {len(boards)}"
        if answer.q_halt is not None:
            said += f", confidence {answer.q_halt[0].sigmoid():.1%}"
        if task.verifies:
            said += ", the rules hold" if task.valid_batch(question[None], tokens[None])[0] else ", not valid"
        boards.append((task.svg(question, tokens), said))

    inputs = torch.from_numpy(question.astype(np.int64))[None]
    think(loop, Question(inputs, torch.zeros(1, dtype=torch.long)), min(int(depth), DEEPEST), record=see)
    return boards


def page():
    import gradio as gr

    def solve(name, text, depth):
        try:
            boards = thoughts(name, text, depth)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return boards, gr.Slider(0, len(boards) - 1, len(boards) - 1, step=1), *boards[-1]

    def show(boards, step):
        return boards[int(step)] if boards else ("", "")

    names = choices()
    if not names:
        raise InputError("no model is here: set MODEL to a NAME.safetensors or to the folder of a run")
    with gr.Blocks(title="Innerloop") as demo:
        gr.Markdown("# Watch it think\nA small model revises its answer step by step. Drag the slider to see them.")
        with gr.Row():
            with gr.Column():
                model = gr.Dropdown(names, value=names[0], label="Model")
                puzzle = gr.Textbox(another(names[0]), label="Puzzle, row by row", lines=3)
                depth = gr.Slider(1, DEEPEST, 32, step=1, label="Steps of thought")
                with gr.Row():
                    draw, go = gr.Button("Another puzzle"), gr.Button("Solve", variant="primary")
            with gr.Column():
                board = gr.HTML(elem_classes="board", label="Board")
                step = gr.Slider(0, 1, 0, step=1, label="Step")
                said = gr.Markdown()
        boards = gr.State([])
        for event in (draw.click, model.change):
            event(another, model, puzzle)
        gr.on([go.click, puzzle.submit], solve, [model, puzzle, depth], [boards, step, board, said], api_name="solve")
        step.change(show, [boards, step], [board, said])
    return demo


if __name__ == "__main__":
    page().launch(css=STYLE)
