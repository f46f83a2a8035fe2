"""HRM and TRM once more in plain numpy, written from the papers: weights in, numbers out, no code of the package.

Sources: arXiv 2506.21734 (HRM), arXiv 2510.04871 (TRM), arXiv 2501.04697 (stablemax), and what is known of the
official settings: RMS norms without a weight and an epsilon of 1e-5 after each residual branch, rotary positions of
base 10,000 over both halves of a head, SwiGLU whose gate comes first, sqrt(width) on embeddings. All in float64, one
example at a time, so that neither a batch nor a broadcast can hide a mistake.
"""

import numpy as np


def rms(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def silu(x):
    return x / (1 + np.exp(-x))


def swiglu(w, x):
    """w: up (2 inner, D) with the gate in its first half, down (D, inner); x (L, D)."""
    inner = len(w["up"]) // 2
    return (silu(x @ w["up"][:inner].T) * (x @ w["up"][inner:].T)) @ w["down"].T


def turned(x, place):
    """One head's vector (E,) at a place, each pair (i, i + E/2) rotated by place / 10000^(2i/E)."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = place / 10_000 ** (2 * i / len(x))
        a, b = x[i], x[i + half]
        out[i], out[i + half] = a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)
    return out


def attention(w, x, heads, rope):
    """w: qkv (3 D, D), out (D, D); x (L, D): every place looks at every place."""
    length, width = x.shape
    e = width // heads
    q, k, v = ((x @ w["qkv"].T)[:, i * width : (i + 1) * width] for i in range(3))
    seen = np.zeros_like(x)
    for h in range(heads):
        mine = slice(h * e, (h + 1) * e)
        qs, ks = (np.stack([turned(t[i, mine], i) if rope else t[i, mine] for i in range(length)]) for t in (q, k))
        scores = qs @ ks.T / np.sqrt(e)
        share = np.exp(scores - scores.max(1, keepdims=True))
        seen[:, mine] = share / share.sum(1, keepdims=True) @ v[:, mine]
    return seen @ w["out"].T


def net(blocks, x, heads, rope):
    """Blocks with the norm after each residual branch. A block without `qkv` mixes places by a SwiGLU over them."""
    for w in blocks:
        if "qkv" in w["mix"]:
            x = rms(x + attention(w["mix"], x, heads, rope))
        else:
            x = rms((x + swiglu(w["mix"], x.T).T).T).T
        x = rms(x + swiglu(w["mlp"], x))
    return x


def embedded(w, tokens, puzzle, prefix):
    """(prefix + S, D) from tokens (S,): the puzzle's row, padded with zeros, is cut into the first places."""
    table = w["tokens"]
    width = table.shape[1]
    rows = np.zeros(prefix * width)
    rows[: w["puzzles"].shape[1]] = w["puzzles"][puzzle]
    x = np.concatenate([rows.reshape(prefix, width), table[tokens]])
    if "places" in w:
        x = (x + w["places"]) / np.sqrt(2)
    return np.sqrt(width) * x


def trm_step(w, y, z, e, cycles, thoughts, heads, rope):
    """T times: n times z <- net(z + y + e), then y <- net(y + z). The one net does both."""
    for _ in range(cycles):
        for _ in range(thoughts):
            z = net(w, z + y + e, heads, rope)
        y = net(w, y + z, heads, rope)
    return y, z


def hrm_step(low, high, h, l, e, cycles, low_cycles, heads, rope):
    """N times: T times l <- low(l + h + e), then h <- high(h + l)."""
    for _ in range(cycles):
        for _ in range(low_cycles):
            l = net(low, l + (h + e), heads, rope)
        h = net(high, h + l, heads, rope)
    return h, l


def read(w, state, prefix):
    """(logits (S, vocab), q (2,)): the halting head reads the first place, the other head the tokens."""
    return state[prefix:] @ w["head"].T, w["q"] @ state[0] + w["q_bias"]


def stablemax_nll(logits, label):
    """-log of s(x_label) / sum s(x), with s(x) = x + 1 from zero up and 1 / (1 - x) below."""
    s = np.array([x + 1 if x >= 0 else 1 / (1 - x) for x in logits])
    return -np.log(s[label] / s.sum())


def loss(logits, q, labels, q_target=None):
    """Of one example: the mean over its labelled places (label 0: none), and half the halting losses.

    The halting head is to say whether all of them are right; the continue head, where there is one, `q_target`.
    """
    at = np.flatnonzero(labels)
    nll = sum(stablemax_nll(logits[i], labels[i]) for i in at) / max(len(at), 1)
    right = float((logits.argmax(1)[at] == labels[at]).all())
    binary = lambda x, t: np.log1p(np.exp(-abs(x))) + max(x, 0) - x * t  # noqa: E731
    return nll + 0.5 * binary(q[0], right) + (0 if q_target is None else 0.5 * binary(q[1], q_target))
