"""Language models by what a person types: a name that `innerloop get` knows, a file, a folder, or an endpoint.

open_named("smollm2")                                       # fetched before by innerloop get smollm2
open_named("models/qwen3.gguf")
open_named("models/Qwen3-0.6B")                             # a folder of Hugging Face transformers
open_named("qwen3@http://127.0.0.1:8080/v1", api="chat")    # MODEL@URL
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from innerloop.errors import InputError
from innerloop.lm.endpoint import Endpoint
from innerloop.lm.get import MODELS, found
from innerloop.lm.hf import Transformers
from innerloop.lm.hf_loading import is_folder
from innerloop.lm.local import Local
from innerloop.text import command, did_you_mean, printable

__all__ = ["open_named"]

LOCAL, ENDPOINT = 2048, 1 << 17  # tokens of a context


def open_named(name: str, *, api: str = "chat", key: str = "OPENAI_API_KEY", context: int = 0, workers: int = 8) -> Any:
    """The language model of that name. Raises InputError, which says how to write one, if there is none.

    api      of an endpoint: chat, completions or responses
    key      environment variable with an endpoint's key; "" for none
    context  most tokens of prompt and completion together; 0: 2,048 of a model on this machine, 131,072 of an endpoint
    workers  calls at once; of a folder, eight times as many texts are written at once
    """
    model, at, url = name.rpartition("@")
    if at and "://" in url:
        if not model:
            raise InputError(f"{printable(name, 200)} names no model: write MODEL@{url}")
        return Endpoint(url, model, api=api, key=key, workers=workers, context=context or ENDPOINT)
    if name in MODELS:
        path = found(name)
        if path is None:
            raise InputError(f"{name} is not on this machine yet: {command('get', name)}")
        return Local(path, slots=workers, context=context or LOCAL)
    if name.lower().endswith(".gguf"):
        if not Path(name).exists():
            raise InputError(f"there is no file {printable(name, 200)}: check the path")
        return Local(name, slots=workers, context=context or LOCAL)
    if is_folder(name):
        return Transformers(
            name, device="cuda" if torch.cuda.is_available() else "cpu", context=context, rows=8 * workers
        )
    raise InputError(
        f'no language model is called "{printable(name, 60)}": {did_you_mean(name, MODELS)} Or give a file.gguf, the '
        "folder of a model of transformers, or MODEL@URL of an endpoint, such as qwen3@http://127.0.0.1:8080/v1"
    )
