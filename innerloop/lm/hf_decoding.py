"""Decoding with a causal model of Hugging Face transformers: its attention reads from and writes to our cache.

    a step: logits = the model at the last token of every row, keys and values of earlier places from the cache

Rows are at different places of one batch, and a finished row is refilled at once, as with our own loops (decoding.py).
A row begins at place 0, so its positions do not depend on the others. Token t of the model is t + 1 here, where 0 is
padding. Shapes: B rows, P places read now, K places looked at, V tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from innerloop.halt import Halt, never
from innerloop.lm.decoding import TextReader, TokenLoop, Writing
from innerloop.parts.cache import Cache
from innerloop.rows import Rows

__all__ = ["ModelTokens", "StopTextReader", "cache_problem"]

WIDTHS = 64  # the places that are looked at are a multiple of this, so that shapes repeat
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # largest difference of logits, relative to their spread
COARSE_TOLERANCE = 0.1  # of bfloat16 and float16
PROBE = 12  # tokens of the check of a cache
MORE_TOKENS = 4  # than bytes of a stop text, in which it is looked for: half characters, and tokens without a text


class KeysAndValues:
    """Our cache in the form that attention layers of transformers write to."""

    is_compileable = False

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Keep keys and values (B, H, P, E) of the places at hand; return those of all places, (B, H, K, E)."""
        return self.cache.swap(layer_idx, keys, values)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.cache.width - self.cache.places.shape[1]


class ModelTokens(TokenLoop):
    """A causal model of transformers as a loop over tokens.

    cached  False: the whole row is read anew for every token, which is slow
    """

    def __init__(self, model: Any, *, cached: bool = True) -> None:
        super().__init__(model, 1, policy="full" if cached else None)
        self.window, self.by_layer = windows_of(model.config.get_text_config())
        self.last_only = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}

    def logits(self, s: Writing, place: Tensor) -> tuple[Tensor, Any]:
        width = min(s.tokens.shape[1], -(-(int(place.max()) + 1) // WIDTHS) * WIDTHS)
        if s.cache is None:
            return self.whole(s.tokens[:, :width])[torch.arange(len(place), device=place.device), place], 1
        s.cache.at(place[:, None], width)
        return self.think(s.tokens, s.cache, never)[0][:, -1], 1

    def think(self, tokens: Tensor, cache: Cache | None, halt: Halt) -> tuple[Tensor, Any]:
        """((B, 1, V) logits of the last of the places at hand, 1); of all places where the model cannot give one."""
        if cache is None:
            return self.whole(tokens), 1
        cache.phase("read")
        ids = (tokens.gather(1, cache.places) - 1).clamp(min=0)
        answer = self.model(
            input_ids=ids, attention_mask=self.masks(cache.places, cache.width), position_ids=cache.places,
            past_key_values=KeysAndValues(cache), use_cache=True, **self.last_only,
        )  # fmt: skip
        cache.done(1)
        return shifted(answer.logits), 1

    def whole(self, tokens: Tensor) -> Tensor:
        """(B, K, V) logits after each of the places of whole rows; padding lies behind them, where none looks."""
        return shifted(self.model(input_ids=(tokens - 1).clamp(min=0), use_cache=False).logits)

    def masks(self, places: Tensor, width: int) -> Any:
        """What each place sees, (B, 1, P, K): 0, or the least number where it does not; by kind of layer if several."""
        ahead = places[:, None, :, None] - torch.arange(width, device=places.device)

        def mask(seen: Tensor) -> Tensor:
            zero = torch.zeros((), dtype=self.model.dtype, device=places.device)
            return torch.where(seen, zero, torch.finfo(self.model.dtype).min)

        full = mask(ahead >= 0)
        if not self.window:
            return full
        near = mask((ahead >= 0) & (ahead < self.window))
        return {"full_attention": full, "sliding_attention": near} if self.by_layer else near


def windows_of(config: Any) -> tuple[int, bool]:
    """(places that a layer with a sliding window sees, 0 for none; whether a model has layers of several kinds)."""
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) or 0
    if kinds:
        return (window, True) if kinds != {"full_attention"} else (0, False)
    return (window if getattr(config, "use_sliding_window", True) else 0), False


def takes(model: Any, name: str) -> bool:
    """Whether the model has an argument of that name."""
    return name in inspect.signature(model.forward).parameters


def shifted(logits: Tensor) -> Tensor:
    """Logits with those of padding in front."""
    return pad(logits, (1, 0))


@torch.no_grad()
def cache_problem(model: Any, vocabulary: int) -> str:
    """Why a model cannot be read token by token from our cache, as the end of a sentence; "" if it can.

    Two rows of different lengths are read so, and compared with reading them whole.
    """
    tokens = 1 + torch.arange(2 * PROBE, device=model.device).view(2, PROBE) * 7 % vocabulary
    loop = ModelTokens(model)
    whole = loop.whole(tokens).float()
    try:
        cache = Cache(2, PROBE, "full", model.device)
        cache.at(torch.arange(PROBE - 2, device=model.device).expand(2, -1), PROBE - 2)
        loop.think(tokens, cache, never)
        for back in range(2):  # the second row is read again from three places before the end of the first
            place = torch.tensor([PROBE - 2 + back, PROBE - 5 + back], device=model.device)
            cache.at(place[:, None], PROBE)
            got = loop.think(tokens, cache, never)[0][:, -1].float()
            wanted = whole[torch.arange(2, device=model.device), place]
            most = TOLERANCE.get(model.dtype, COARSE_TOLERANCE) * float(wanted[:, 1:].std())
            if not float((got - wanted).abs().max()) <= most:
                return f"its logits differ by {float((got - wanted).abs().max()):.2g}"
    except Exception as error:  # whatever a model's own code raises for a cache that it does not know
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


class StopTextReader(TextReader):
    """The Reader for texts that end at one of several tokens, or at texts, wherever tokens begin and end.

    ends    tokens that end a text
    decode  text of tokens
    A job's `owner` is its stop texts.
    """

    def __init__(self, places: int, ends: frozenset[int], decode: Callable[[Sequence[int]], str]) -> None:
        super().__init__(places, -1)
        self.ends, self.decode = ends, decode

    def ended(self, rows: Rows, old: Any) -> dict[int, str]:
        looked = max((self.looked_at(job.owner) for job in rows.live), default=1)
        s: Writing = rows.state
        back = torch.arange(looked, 0, -1, device=s.tokens.device)
        tails = s.tokens.gather(1, (s.length[:, None] - back).clamp(min=0)).tolist()
        ends = {}
        for i, (job, tail) in enumerate(zip(rows.jobs, tails, strict=True)):
            if job is None:
                continue
            written = tail[-min(rows.steps[i], looked) :]
            if tail[-1] in self.ends or (job.owner and self.stops(rows, i, written)):
                ends[i] = "stop"
        return ends

    def looked_at(self, stop: Sequence[str]) -> int:
        """Tokens at the end of a text in which these texts lie, if its last token ended one."""
        return max((len(text.encode()) + MORE_TOKENS for text in stop), default=1)

    def stops(self, rows: Rows, i: int, tail: Sequence[int]) -> bool:
        """Whether the text of row i holds a stop text; it is decoded whole only if its tail holds one."""
        stop = rows.jobs[i].owner
        return holds(self.decode(tail), stop) and holds(self.decode(self.written(rows, i)), stop)


def holds(text: str, stop: Sequence[str]) -> bool:
    """Whether one of the stop texts is in a text."""
    return any(s in text for s in stop)
