"""Fast weights: TTT-Linear and Titans memories, updated by gradient steps in the forward pass; FastWeights.

    TTT-Linear   W <- W - eta grad 1/2 |LN(k W + b) - LN(v - k)|^2,   read: q + LN(q W + b)     arXiv 2407.04620
    Titans       S <- m S - theta grad 1/2 |k M - v|^2,   M <- (1 - alpha) M + S,   read: q M     arXiv 2501.00663
    FastWeights  chosen weights of any model adapt during an episode; the model itself does not change

Both memories take the gradients of a chunk of tokens at the memory before the chunk, so that a chunk is a few matrix
products (the dual form) instead of one memory per token (the primal form); the two are equal. Both are causal: token i
reads what tokens 1 .. i have written. Bidirectional makes bidirectional mixers of them, for grids.

Shapes: B batch, H heads, L length, C tokens of a chunk, E head width, F inputs of a memory (E, or E + 1 with a bias).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext, rotary, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, rms_norm, trunc_normal

CHUNK = 16  # tokens of a chunk, as in the official code of TTT
LN_EPS = 1e-6  # of the inner norm, likewise

Held = Sequence[tuple[Tensor, Tensor]]  # (weight (..., C, 1) or (1, 1), memory (..., F, E)) before a chunk
Form = Callable[[Held, Tensor, Tensor, Tensor, Tensor], Tensor]


# -- one chunk: token i reads  sum over held of share_i * memory  -  sum over j <= i of P_ij k_j' g_j ------------------


def dual(held: Held, P_CC: Tensor, q_CF: Tensor, k_CF: Tensor, g_CE: Tensor) -> Tensor:
    """(..., C, E) what every token reads, without forming a memory per token. P is lower triangular."""
    return _sum(share * (q_CF @ memory) for share, memory in held) - (P_CC * (q_CF @ k_CF.mT)) @ g_CE


def primal(held: Held, P_CC: Tensor, q_CF: Tensor, k_CF: Tensor, g_CE: Tensor) -> Tensor:
    """The same by definition: forms C memories (..., C, F, E), each read by its token."""
    began = _sum(share[..., None] * memory[..., None, :, :] for share, memory in held)
    memory_CFE = began - torch.einsum("...ij,...jf,...je->...ife", P_CC, k_CF, g_CE)
    return (q_CF[..., None, :] @ memory_CFE)[..., 0, :]


def memory_after(held: Held, P_CC: Tensor, k_CF: Tensor, g_CE: Tensor) -> Tensor:
    """(..., F, E) the memory after the chunk's last token."""
    began = _sum(share[..., -1:, :] * memory for share, memory in held)
    return began - k_CF.mT @ (P_CC[..., -1, :, None] * g_CE)


def _sum(terms: Any) -> Tensor:
    first, *rest = terms
    return sum(rest, first)


def in_chunks(visit: Callable[..., tuple[Tensor, Any]], state: Any, streams: Sequence[Tensor], chunk: int) -> Any:
    """visit(state, *slices) -> (read, state) over slices (..., C, .) of (..., L, .): (all reads, last state).

    The last slice may be shorter.
    """
    reads = []
    for slices in zip(*(t.split(chunk, -2) for t in streams), strict=True):
        read, state = visit(state, *slices)
        reads.append(read)
    return torch.cat(reads, -2), state


# -- errors: the gradient of a memory's loss with respect to its output -----------------------------------------------


def plain_error(z: Tensor, target: Tensor) -> Tensor:
    """Of 1/2 |z - target|^2. With it, a memory of zeros and one chunk, TTT is causal linear attention."""
    return z - target


def layer_norm(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Over the last axis, with a weight and bias for each head (H, 1, E)."""
    return F.layer_norm(z, z.shape[-1:], eps=LN_EPS) * weight + bias


def norm_error(z: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Of 1/2 |layer_norm(z) - target|^2, in closed form."""
    centred = z - z.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + LN_EPS)
    unit = centred * scale
    g = (unit * weight + bias - target) * weight
    return (g - g.mean(-1, keepdim=True) - unit * (g * unit).mean(-1, keepdim=True)) * scale


# -- the two memories as mixers ---------------------------------------------------------------------------------------


class MemoryMixer(nn.Module):
    """Base of both memories: q, k, v of each head, in float32 or wider, with rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads, self.head, self.chunk = config.heads, config.hidden_size // config.heads, min(CHUNK, config.length)
        self.qkv, self.out = (
            Linear(config.hidden_size, 3 * config.hidden_size),
            Linear(config.hidden_size, config.hidden_size),
        )
        self.rope = config.positions == "rope"
        if self.rope:
            cos, sin = rotary(config.length, self.head, config.rope_base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def tokens(self, x_BLD: Tensor) -> list[Tensor]:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.rope:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        return [self.wide(t) for t in (q, k, v)]

    @staticmethod
    def wide(t_BLHE: Tensor) -> Tensor:
        """(B, H, L, E) in float32 or wider: inner steps are too small for half precision."""
        return t_BLHE.transpose(1, 2).to(torch.promote_types(t_BLHE.dtype, torch.float32))

    @staticmethod
    def narrow(read_BHLE: Tensor, like: Tensor) -> Tensor:
        """(B, L, D), heads concatenated, in the dtype of `like`."""
        return read_BHLE.transpose(1, 2).flatten(2).to(like.dtype)

    def start(self, rows: int) -> Any:
        """The initial memory for `rows` examples."""
        raise NotImplementedError

    def scan(self, x_BLD: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """One pass over the tokens: (outputs (B, L, D), memory after the last token)."""
        raise NotImplementedError

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.scan(x_BLD, self.start(len(x_BLD)))[0]


class TTT(MemoryMixer):
    """TTT-Linear: the memory is a linear map, trained in the forward pass to predict v - k from k (arXiv 2407.04620).

    eta_ij = max(0, 1/i + learned_i) * sigmoid(a(x_j)) / E is the step size of token j as read by token i of a chunk.
    Memory (B, H, E + 1, E), its last row the bias. The target is normed with the inner norm's weights, as in the
    authors' later code for video, so that keys and values cannot shrink together. The initial std is above the official
    0.02, whose inverse the inner norm would multiply every difference by: a loop of passes would then be chaotic.
    """

    scale: Tensor

    def __init__(self, config: NetConfig, form: Form = dual) -> None:
        super().__init__(config)
        self.form = form
        self.rate = Linear(config.hidden_size, config.heads, bias=True)
        nn.init.normal_(self.rate.weight, std=0.02)
        self.learned = nn.Parameter(torch.zeros(self.chunk))
        self.register_buffer("scale", 1 / torch.arange(1, self.chunk + 1), persistent=False)
        self.weight = nn.Parameter(torch.ones(config.heads, 1, self.head))
        self.bias = nn.Parameter(torch.zeros(config.heads, 1, self.head))
        start = trunc_normal(config.heads, self.head, self.head, std=0.5 * self.head**-0.5)
        self.memory = nn.Parameter(F.pad(start, (0, 0, 0, 1)))

    def start(self, rows: int) -> Tensor:
        return self.memory.expand(rows, *self.memory.shape)

    def scan(self, x_BLD: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.tokens(x_BLD)
        target = layer_norm(v - k, self.weight, self.bias)
        rate_BHL1 = self.wide(self.rate(x_BLD).sigmoid()[..., None]) / self.head
        q1, k1 = (F.pad(t, (0, 1), value=1.0) for t in (q, k))
        read, memory = in_chunks(self.chunk_step, memory, (q1, k1, target, rate_BHL1), self.chunk)
        read = self.narrow(q + layer_norm(read, self.weight, self.bias), x_BLD)
        return self.out(rms_norm(read)), memory

    def chunk_step(self, w: Tensor, q: Tensor, k: Tensor, target: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        eta_CC = (self.scale + self.learned).clamp_min(0)[: q.shape[-2], None] * rate.mT
        error = lambda z, t: norm_error(z, t, self.weight, self.bias)  # noqa: E731
        return ttt_chunk(w, q, k, target, eta_CC, error, self.form)


def ttt_chunk(
    w: Tensor,
    q: Tensor,
    k: Tensor,
    target: Tensor,
    eta_CC: Tensor,
    error: Callable[[Tensor, Tensor], Tensor] = plain_error,
    form: Form = dual,
) -> tuple[Tensor, Tensor]:
    """One chunk of TTT: reads (..., C, E) and the next memory (..., F, E). eta_ij: step size of token j for token i.

    The memory's output for k (..., C, F) is k @ w; `error` is the gradient of its loss with respect to that.
    """
    g, P = error(k @ w, target), eta_CC.tril()
    held = ((w.new_ones(1, 1), w),)
    return form(held, P, q, k, g), memory_after(held, P, k, g)


class Titans(MemoryMixer):
    """The linear neural memory of Titans: gradient steps with momentum and forgetting (arXiv 2501.00663).

    m, theta and alpha are sigmoids of the token, one each per head; theta is divided by the chunk's length, and q and k
    are normalised. Memory (M, S), both (B, H, E, E), S zero at first. The paper's deeper memories, convolutions and
    normed, gated output are left out.
    """

    def __init__(self, config: NetConfig, form: Form = dual) -> None:
        super().__init__(config)
        self.form = form
        self.gates = Linear(config.hidden_size, 3 * config.heads, bias=True)  # m, theta, alpha
        self.memory = nn.Parameter(trunc_normal(config.heads, self.head, self.head, std=self.head**-0.5))

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        memory = self.memory.expand(rows, *self.memory.shape)
        return memory, torch.zeros_like(memory)

    def scan(self, x_BLD: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = self.tokens(x_BLD)
        gates_BHL3 = self.wide(self.gates(x_BLD).unflatten(-1, (self.heads, 3)))
        streams = (F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, gates_BHL3)
        read, memory = in_chunks(self.chunk_step, memory, streams, self.chunk)
        return self.out(self.narrow(read, x_BLD)), memory

    def chunk_step(
        self, memory: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor, gates: Tensor
    ) -> tuple[Any, Any]:
        m, theta, alpha = gates.unbind(-1)
        return titans_chunk(
            memory, q, k, v, F.logsigmoid(m), theta.sigmoid() / self.chunk, F.logsigmoid(-alpha), self.form
        )


def titans_chunk(
    memory: tuple[Tensor, Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_m: Tensor,
    theta: Tensor,
    log_keep: Tensor,
    form: Form = dual,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One chunk of Titans: reads (..., C, E) and the next (M, S). Gates (..., C): log m, theta, log(1 - alpha).

    Both recurrences are linear, so that a chunk needs two triangular matrices of products of gates.
    """
    M, S = memory
    g = plain_error(k @ M, v)
    (keep_C1, keep_CC), (m_C1, m_CC) = decays(log_keep), decays(log_m)
    P = (keep_CC @ m_CC) * theta[..., None, :]
    held = ((keep_C1, M), (keep_CC @ m_C1, S))
    momentum = memory_after(((m_C1, S),), m_CC * theta[..., None, :], k, g)
    return form(held, P, q, k, g), (memory_after(held, P, k, g), momentum)


def decays(log_x_C: Tensor) -> tuple[Tensor, Tensor]:
    """Products of x: (..., C, 1) of x_1 .. x_i, and (..., C, C) of x_(j+1) .. x_i for j <= i, zero above."""
    total = log_x_C.cumsum(-1)
    above = torch.ones(total.shape[-1:] * 2, dtype=torch.bool, device=total.device).triu(1)
    span = (total[..., :, None] - total[..., None, :]).masked_fill(above, float("-inf"))
    return total.exp()[..., None], span.exp()


class Bidirectional(nn.Module):
    """A bidirectional mixer of two causal ones, in order and in reverse: ahead(x) + back(x).

    With a causal `size` there is only the forward one.
    """

    reader: type[nn.Module]

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.ahead, self.back = self.reader(config), None if config.causal else self.reader(config)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        if context and context.memory:
            raise InputError('fast weights keep no keys to go on from: read the text anew, or use block "attention"')
        y_BLD = self.ahead(x_BLD)
        return y_BLD if self.back is None else y_BLD + self.back(x_BLD.flip(1)).flip(1)


class BidirectionalTTT(Bidirectional):
    reader = TTT


class BidirectionalTitans(Bidirectional):
    reader = Titans


# -- fast weights around a whole model --------------------------------------------------------------------------------

Fast = tuple[Tensor, ...]  # what an episode has added to each chosen weight


class FastWeights:
    """Chosen weights of a model adapt within an episode, by gradient steps on the error of its predictions.

        fast = f.begin()                            at the start of an episode: zeros
        each turn:   guess = f.predict(fast, x);   fast = f.adapt(fast, x, observed)

    `fast` holds the changes of the weights; the model itself is never written, so every episode starts from the same
    weights. Gradients of an outer loss reach the model's weights through the prediction, and with second_order also
    through the inner steps of the turn. Between turns `fast` is detached, so memory does not grow.

    model         any nn.Module, called as model(*inputs)
    consistency   called as consistency(prediction, observed) -> scalar
    chosen        prefixes of the names of the parameters that adapt; "" for all
    Raises InputError where no parameter has such a name. Source: model-agnostic meta-learning (arXiv 1703.03400).
    """

    def __init__(
        self,
        model: nn.Module,
        consistency: Callable[[Any, Any], Tensor],
        chosen: Sequence[str] = ("",),
        lr: float = 0.1,
        steps: int = 3,
        second_order: bool = False,
    ) -> None:
        self.model, self.consistency = model, consistency
        self.lr, self.steps, self.second_order = lr, steps, second_order
        self.names = [n for n, _ in model.named_parameters() if n.startswith(tuple(chosen))]
        if not self.names:
            known = ", ".join(n for n, _ in model.named_parameters())
            raise InputError(f"no parameter's name begins with {' or '.join(chosen)}: there are {known}")

    def begin(self) -> Fast:
        """Zero changes, one tensor for each of `names`."""
        return tuple(torch.zeros_like(self.model.get_parameter(n)) for n in self.names)

    def predict(self, fast: Fast, *inputs: Any) -> Any:
        """The model's output with its weights changed by `fast`."""
        weights = {n: self.model.get_parameter(n) + added for n, added in zip(self.names, fast, strict=True)}
        return torch.func.functional_call(self.model, weights, inputs)

    def adapt(self, fast: Fast, *inputs: Any, observed: Any) -> Fast:
        """`fast` after `steps` gradient steps on the consistency of predict(fast, *inputs) with `observed`."""
        loss = lambda fast: self.consistency(self.predict(fast, *inputs), observed)  # noqa: E731
        fast = tuple(added.detach() for added in fast)
        for _ in range(self.steps):
            slopes = torch.func.grad(loss)(fast)
            if not self.second_order:
                slopes = tuple(slope.detach() for slope in slopes)
            fast = tuple(added - self.lr * slope for added, slope in zip(fast, slopes, strict=True))
        return fast
