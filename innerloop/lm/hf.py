"""Transformers: a causal language model of Hugging Face transformers, from a folder on this machine.

    model = Transformers("models/SmolLM2-135M-Instruct")
    model = Transformers((model, tokenizer), device="cuda")

Texts are written by continuous batching of `rows` rows, from one cache of keys and values, whichever threads ask. What
is drawn is a function of the seed and the place alone, so a batch gives what each prompt gives alone. A model whose
layers keep another state than keys and values is read anew, whole, for every token; opening it warns of that.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from innerloop.errors import InputError
from innerloop.lm.backend import Backend, digest_of_weights
from innerloop.lm.decoding import TextJob, Written, key_of, sizes_of
from innerloop.lm.hf_decoding import ModelTokens, StopTextReader, cache_problem
from innerloop.lm.hf_loading import load
from innerloop.lm.protocol import CAPABILITIES, Completion, Prompt, Reply, Sampling, kind_of
from innerloop.lm.scheduler import Scheduler
from innerloop.lm.scripted import cut_at_stop
from innerloop.rows import Done, Rows
from innerloop.text import printable

__all__ = ["Transformers"]

CONTEXT, ROWS = 2048, 32
NOT_OF_THE_MODEL = {"transformers_version", "_name_or_path", "torch_dtype", "dtype"}  # in a config
KEPT = 4096  # texts whose ids are kept


class Transformers(Backend):
    """See the module docstring.

    source   a folder with config.json, safetensors and a tokenizer; a GGUF file; or (model, tokenizer), loaded
    device   of the weights; None: the CPU, or where a loaded model is
    dtype    of the weights; None: as they were saved, or are in a loaded model
    context  most tokens of prompt and completion together; 0: 2,048, or what the model was made for if that is less
    rows     texts written at once
    cached   False: no cache; None: a cache where the model can use it
    Raises InputError for a source that is none, and where transformers is not installed.
    """

    def __init__(
        self,
        source: Path | str | tuple[Any, Any],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        context: int = 0,
        rows: int = ROWS,
        cached: bool | None = None,
        name: str = "",
    ) -> None:
        if rows < 1 or context < 0:
            raise InputError(f"rows={rows}, context={context}: give 1 or more rows, and a context of 0 or more tokens")
        if isinstance(source, tuple):
            model, self.tokenizer = source
            name = name or printable(str(model.config._name_or_path).rpartition("/")[2] or type(model).__name__, 60)
        else:
            model, self.tokenizer = load(Path(source), dtype)
            name = name or Path(source).resolve().name
        if device is not None or dtype is not None:
            model = model.to(device=device or model.device, dtype=dtype or model.dtype)
        self.model = model.eval()
        self.vocabulary = int(model.config.get_text_config().vocab_size)
        self.context = context_of(model.config.get_text_config(), context)
        self.ends = ends_of(model, self.tokenizer)
        self.capabilities = frozenset(CAPABILITIES) - (set() if self.tokenizer.chat_template else {"chat"})
        self.name = f"{name} ({digest_of_weights(model.state_dict().values(), *self.described())})"
        self._encode = lru_cache(KEPT)(self._encode_once)
        self._template = lru_cache(KEPT)(self._template_once)
        self.begin = self._begin()
        self.cached = self._cached(cached)
        self.tokens = ModelTokens(self.model, cached=self.cached)
        reader = StopTextReader(self.context, frozenset(i + 1 for i in self.ends), self._decode_shifted)
        self.scheduler = Scheduler(Rows(self.tokens, rows, reader, sizes=sizes_of(rows), device=model.device))
        self.rows = rows

    def described(self) -> tuple[str, ...]:
        """What answers depend on, besides the weights."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in NOT_OF_THE_MODEL}
        others = (self.tokenizer.chat_template, sorted(self.ends), self.model.dtype, sorted(config.items()))
        return words, *map(str, others)

    def _cached(self, asked: bool | None) -> bool:
        """Whether to use a cache. Raises InputError where one is asked for, and the model cannot use it."""
        if asked is False:
            return False
        problem = printable(cache_problem(self.model, self.vocabulary), 200)
        if problem and asked:
            raise InputError(f"{self.name} cannot write from a cache of keys and values ({problem}): give cached=False")
        if problem:
            warnings.warn(
                f"{self.name} cannot write from a cache of keys and values ({problem}): every token reads the whole "
                "text anew, which is slow",
                stacklevel=3,
            )
        return not problem

    # -- tokens -------------------------------------------------------------------------------------------------------
    def _begin(self) -> tuple[int, ...]:
        """The ids that the tokenizer puts in front of a text, such as that of the begin of a text."""
        bare, whole = self.encode("a"), tuple(self.tokenizer("a").input_ids)
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return whole[:at]

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text, without those in front of it. Names of special tokens in it are plain text."""
        return self._encode(text, False)

    def _encode_once(self, text: str, special: bool) -> tuple[int, ...]:
        made = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special, verbose=False)
        return tuple(made.input_ids)

    def _template_once(self, messages: str) -> str:
        """Messages, as JSON, by the chat template."""
        try:
            made = self.tokenizer.apply_chat_template(json.loads(messages), tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template raises what it likes, for roles that it does not know
            raise InputError(f"the chat template of {self.name} refuses these messages: {error}") from None
        return str(made)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens have none."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _decode_shifted(self, tokens: Sequence[int]) -> str:
        return self.decode([t - 1 for t in tokens])

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt: messages by the chat template, a text with what the tokenizer puts in front."""
        kind = kind_of(prompt)
        if kind == "raw":
            return self.begin + self.encode(prompt)  # type: ignore[arg-type]
        if kind == "chat":
            messages = [dict(m) for m in prompt]  # type: ignore[arg-type, call-overload]
            return self._encode(self._template(json.dumps(messages)), True)
        return self.known(prompt)  # type: ignore[arg-type]

    def known(self, ids: Sequence[int]) -> tuple[int, ...]:
        """These ids. Raises InputError for one that the model does not have."""
        if any(not 0 <= i < self.vocabulary for i in ids):
            raise InputError(f"an id is none of {self.name}: give 0 to {self.vocabulary - 1}")
        return tuple(ids)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.prompt_ids(prompt))

    def count_prefix(self, prefix: str | Sequence[int]) -> int:
        return len(self.prefix_ids(prefix))

    def prefix_ids(self, prefix: str | Sequence[int]) -> tuple[int, ...]:
        """The ids of the begin of a completion; ids are taken as they are."""
        return self.encode(prefix) if isinstance(prefix, str) else self.known(prefix)

    # -- calls --------------------------------------------------------------------------------------------------------
    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        begun = self.prefix_ids(prefix)
        rows = [self.prompt_ids(p) + begun for p in prompts]
        if not all(rows):
            raise InputError("a prompt is empty: give at least one token")
        jobs = [
            TextJob(
                tuple(i + 1 for i in row), sampling.max_new_tokens, key_of(sampling.seed, i), sampling.temperature,
                sampling.top_p, owner=sampling.stop,
            )
            for row in rows
            for i in range(sampling.n)
        ]  # fmt: skip
        made = [self.completion(done, sampling) for done in self.scheduler.run(jobs)]
        return [Reply(tuple(made[i * sampling.n :][: sampling.n]), len(row)) for i, row in enumerate(rows)]

    def completion(self, done: Done, sampling: Sampling) -> Completion:
        """What a job wrote, without the end mark or stop text that ended it."""
        written: Written = done.result
        ids = [t - 1 for t in written.ids]
        if done.end == "stop" and ids[-1] in self.ends:
            ids.pop()
        text = self.decode(ids)
        if done.end == "stop" and (cut := cut_at_stop(text, sampling.stop)) != text:
            text = cut
            while ids and not text.startswith(self.decode(ids)):
                ids.pop()
        logprobs = written.logprobs[: len(ids)] if sampling.logprobs else None
        finish = "stop" if done.end == "stop" else "length"
        return Completion(text, finish, len(written.ids), tuple(ids), logprobs)

    @torch.no_grad()
    def score_each(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        pairs = [(self.prompt_ids(p), self.encode(c)) for p, c in zip(prompts, continuations, strict=True)]
        for i, (prompt, text) in enumerate(pairs, 1):
            if not prompt or len(prompt) + len(text) > self.context:
                raise InputError(
                    f"text {i} has {len(prompt)} + {len(text)} tokens: give at least one, and {self.context} in all"
                )
        scores: list[tuple[float, ...]] = []
        for first in range(0, len(pairs), self.rows):
            scores += self.scored(pairs[first : first + self.rows])
        return scores

    def scored(self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[tuple[float, ...]]:
        """Log probabilities of the tokens of continuations, as one batch."""
        tokens = torch.zeros(len(pairs), max(len(p) + len(t) for p, t in pairs), dtype=torch.long)
        for row, (prompt, text) in zip(tokens, pairs, strict=True):
            row[: len(prompt) + len(text)] = torch.tensor(prompt + text) + 1
        tokens = tokens.to(self.model.device)
        logits = self.tokens.whole(tokens)[:, :-1, 1:]
        scores = []
        for row, row_logits, (prompt, text) in zip(tokens, logits, pairs, strict=True):
            part = slice(len(prompt) - 1, len(prompt) + len(text) - 1)
            given = row_logits[part].float().log_softmax(-1).gather(-1, (row[1:][part] - 1)[:, None])
            scores.append(tuple(given[:, 0].tolist()))
        return scores


def context_of(config: Any, asked: int) -> int:
    """Most tokens of prompt and completion. Raises InputError for more than the model was made for."""
    most = getattr(config, "max_position_embeddings", None) or 1 << 20
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):  # beyond it, a row's positions would depend on the other rows
        most = min(most, rope.get("original_max_position_embeddings") or most)
    if asked > most:
        raise InputError(f"a context of {asked} tokens is more than the {most} that the model was made for: give less")
    return asked or min(CONTEXT, most)


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a text: of the model's generation config, or of its config, and of its tokenizer."""
    given = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    given = model.config.get_text_config().eos_token_id if given is None else given
    listed = given if isinstance(given, list | tuple) else [given]
    return frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)
