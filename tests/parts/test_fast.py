"""Fast weights: two forms of one memory, the definitions they stand for, and episodes that leave no trace."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.errors import InputError
from innerloop.parts import fast_weights
from innerloop.parts.config import NetConfig
from innerloop.parts.fast_weights import TTT, BidirectionalTitans, BidirectionalTTT, FastWeights, Titans, dual, primal

SIZE = NetConfig(
    vocab=6, seq=13, rows=1, hidden_size=16, heads=2, layers=1, positions="none", prefix=0, puzzle_emb_size=0
)
FORMS = {"dual": dual, "primal": primal}


def made(kind, form=dual, chunk=4, positions="none"):
    """A float64 mixer, every parameter off its start."""
    torch.manual_seed(0)
    mixer = kind(replace(SIZE, positions=positions), form).double()
    mixer.chunk = chunk
    with torch.no_grad():
        for p in mixer.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return mixer


def tokens(rows=2, length=13):
    return torch.randn(rows, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [1, 4, 12])
@pytest.mark.parametrize("kind", [TTT, Titans])
def test_the_dual_form_is_the_primal_form(kind, chunk):
    """Reads, memories and all gradients; a chunk that does not divide the length leaves a shorter last one."""
    found = {}
    for name, form in FORMS.items():
        mixer, x = made(kind, form, chunk), tokens().requires_grad_()
        y, memory = mixer.scan(x, mixer.start(2))
        memories = memory if isinstance(memory, tuple) else (memory,)
        total = sum((t * torch.arange(t.numel()).view_as(t).sin()).sum() for t in (y, *memories))
        slopes = torch.autograd.grad(total, [x, *mixer.parameters()])
        found[name] = [y, *memories, *slopes]
    for a, b in zip(found["dual"], found["primal"], strict=True):
        off, size = float((a - b).detach().abs().max()), float(b.detach().abs().max())
        assert off <= 1e-12 * max(1.0, size)


def test_the_closed_form_of_the_error_is_the_gradient_of_its_loss():
    z, target = (torch.randn(3, 2, 5, 8, dtype=torch.float64) for _ in range(2))
    weight, bias = (torch.randn(2, 1, 8, dtype=torch.float64) for _ in range(2))
    loss = lambda z: 0.5 * (fast_weights.layer_norm(z, weight, bias) - target).square().sum()  # noqa: E731
    want = torch.func.grad(loss)(z)
    assert torch.allclose(fast_weights.norm_error(z, target, weight, bias), want, atol=1e-12)


def test_ttt_is_gradient_descent_on_its_loss():
    """One chunk, token by token: each takes a step from the memory the chunk began with, summed up to it."""
    mixer = made(TTT, chunk=13)
    q, k, v = mixer.tokens(tokens(1))
    target = fast_weights.layer_norm(v - k, mixer.weight, mixer.bias)
    ones = torch.ones_like(q[..., :1])
    q, k = torch.cat((q, ones), -1), torch.cat((k, ones), -1)
    rate = torch.rand(1, 2, 13, 1, dtype=torch.float64)
    eta = torch.rand(13, 1, dtype=torch.float64) * rate.mT
    error = lambda z, t: fast_weights.norm_error(z, t, mixer.weight, mixer.bias)  # noqa: E731
    w0 = mixer.start(1)
    reads, last = fast_weights.ttt_chunk(w0, q, k, target, eta, error)

    def loss(w, j):
        said = fast_weights.layer_norm(k[:, :, j : j + 1] @ w, mixer.weight, mixer.bias)
        return 0.5 * (said - target[:, :, j : j + 1]).square().sum()

    slopes = [torch.func.grad(loss)(w0, j) for j in range(13)]
    for i in range(13):
        w = w0 - sum(eta[:, :, i, j, None, None] * slopes[j] for j in range(i + 1))
        assert torch.allclose(q[:, :, i : i + 1] @ w, reads[:, :, i : i + 1], atol=1e-12)
    assert torch.allclose(w, last, atol=1e-12)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_from_zero_one_chunk_and_a_plain_loss_it_is_linear_attention(form):
    q, k, v = (torch.randn(2, 3, 12, 8, dtype=torch.float64) for _ in range(3))
    zero = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    eta = torch.full((12, 12), 0.7, dtype=torch.float64)
    reads, last = fast_weights.ttt_chunk(zero, q, k, v, eta, form=form)
    causal = 0.7 * torch.stack([sum((q[:, :, i] * k[:, :, j]).sum(-1, True) * v[:, :, j] for j in range(i + 1)) for i in range(12)], 2)  # fmt: skip # noqa: E501
    assert (reads - causal).abs().max() < 1e-12
    assert (q @ last - 0.7 * (q @ k.mT) @ v).abs().max() < 1e-12  # the whole batch at once: no mask is left


def test_titans_is_its_two_recurrences():
    """S <- m S - theta grad,  M <- (1 - alpha) M + S, token by token, gradients at the chunk's first memory."""
    q, k, v = (torch.randn(2, 3, 7, 8, dtype=torch.float64) for _ in range(3))
    m, theta, keep = (torch.rand(2, 3, 7, dtype=torch.float64) for _ in range(3))
    M0, S0 = (torch.randn(2, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    reads, (last, momentum) = fast_weights.titans_chunk((M0, S0), q, k, v, m.log(), theta, keep.log())
    loss = lambda M, t: 0.5 * (k[:, :, t : t + 1] @ M - v[:, :, t : t + 1]).square().sum()  # noqa: E731
    M, S = M0, S0
    at = lambda gate, t: gate[:, :, t, None, None]  # noqa: E731
    for t in range(7):
        S = at(m, t) * S - at(theta, t) * torch.func.grad(loss)(M0, t)
        M = at(keep, t) * M + S
        assert torch.allclose(q[:, :, t : t + 1] @ M, reads[:, :, t : t + 1], atol=1e-12)
    assert torch.allclose(M, last, atol=1e-12) and torch.allclose(S, momentum, atol=1e-12)


def test_gates_that_are_shut_do_not_overflow():
    gate = torch.full((1, 16), -80.0, requires_grad=True)
    share, inner = fast_weights.decays(F.logsigmoid(gate))
    (share.sum() + inner.sum()).backward()
    assert inner.isfinite().all() and gate.grad.isfinite().all() and torch.equal(inner[0].diag(), torch.ones(16))


@pytest.mark.parametrize("kind", [TTT, Titans])
@pytest.mark.parametrize("positions", ["none", "rope"])
def test_a_token_reads_nothing_that_comes_after_it(kind, positions):
    mixer, x = made(kind, positions=positions), tokens()
    y, changed = mixer(x), x.clone()
    changed[:, 7] += 1
    moved = (mixer(changed) - y).abs().amax((0, 2)) > 1e-9
    assert moved.tolist() == [False] * 7 + [True] * 6


@pytest.mark.parametrize("kind", [BidirectionalTTT, BidirectionalTitans])
def test_both_ways_every_place_reads_every_other(kind):
    torch.manual_seed(0)
    mixer, x = kind(SIZE).double(), tokens(1)
    for place in range(13):
        changed = x.clone()
        changed[:, place] += 1
        assert ((mixer(changed) - mixer(x)).abs().amax((0, 2)) > 1e-9).all()


@pytest.mark.parametrize("kind", [TTT, Titans])
def test_a_pass_in_two_parts_is_a_pass(kind):
    mixer, x = made(kind, chunk=4), tokens()
    whole, after = mixer.scan(x, mixer.start(2))
    first, memory = mixer.scan(x[:, :8], mixer.start(2))
    second, memory = mixer.scan(x[:, 8:], memory)
    assert torch.allclose(torch.cat((first, second), 1), whole, atol=1e-12)
    pairs = zip(*(m if isinstance(m, tuple) else (m,) for m in (memory, after)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


@pytest.mark.parametrize("kind", [TTT, Titans])
def test_half_precision_keeps_a_float32_memory(kind):
    mixer = kind(SIZE)
    y, memory = mixer.scan(tokens().bfloat16(), mixer.start(2))
    memory = memory[0] if isinstance(memory, tuple) else memory
    assert y.dtype == torch.bfloat16 and memory.dtype == torch.float32 and y.isfinite().all()


def test_a_memory_learns_what_it_is_told():
    """More passes over the same tokens lower the loss that the memory descends on."""
    mixer = made(TTT, chunk=4)
    x, memory = tokens(), mixer.start(2)
    _, k, v = mixer.tokens(x)
    target, k1 = fast_weights.layer_norm(v - k, mixer.weight, mixer.bias), F.pad(k, (0, 1), value=1.0)
    losses = []
    for _ in range(12):
        said = fast_weights.layer_norm(k1 @ memory, mixer.weight, mixer.bias)
        losses.append((said - target).square().mean().item())
        memory = mixer.scan(x, memory)[1]
    assert losses[-1] < 0.8 * losses[0] and memory.isfinite().all()


# -- episodes ---------------------------------------------------------------------------------------------------------


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(-0.0, dtype=torch.float64))

    def forward(self, x):
        return self.w * x + self.b


def square(guess, seen):
    return 0.5 * (guess - seen).square().mean()


def bytes_of(model):
    return {n: p.detach().numpy().tobytes() for n, p in model.named_parameters()}


def test_an_episode_leaves_the_model_as_it_was():
    model = Line()
    before, f = bytes_of(model), FastWeights(model, square, steps=2)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    added = f.begin()
    assert torch.equal(f.predict(added, x), model(x))
    for _ in range(5):
        added = f.adapt(added, x, observed=3 * x)
    assert square(f.predict(added, x), 3 * x) < 0.5 * square(model(x), 3 * x)
    assert bytes_of(model) == before and all(p.grad is None for p in model.parameters())
    assert torch.equal(f.predict(f.begin(), x), model(x))  # the next episode begins where this one did


def test_only_the_chosen_weights_adapt():
    model = Line()
    f = FastWeights(model, square, chosen=("b",))
    (added,) = f.adapt(f.begin(), torch.ones(2).double(), observed=torch.zeros(2).double())
    assert f.names == ["b"] and added != 0
    with pytest.raises(InputError, match="begins with c"):
        FastWeights(model, square, chosen=("c",))


@pytest.mark.parametrize("second", [False, True])
def test_the_outer_gradient_is_of_the_order_asked_for(second):
    """w' = w - lr a'(w): the outer slope is b'(w') (1 - lr a'') by the second order, b'(w') by the first."""
    model, lr, x, y, u, v = Line(), 0.1, 2.0, 1.0, 3.0, -1.0
    f = FastWeights(model, square, chosen=("w",), lr=lr, steps=1, second_order=second)
    t = lambda *values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    added = f.adapt(f.begin(), t(x), observed=t(y))
    square(f.predict(added, t(u)), t(v)).backward()
    moved = 1.5 - lr * (1.5 * x - y) * x
    want = (moved * u - v) * u * (1 - lr * x * x if second else 1)
    assert model.w.grad.item() == pytest.approx(want, rel=1e-12)


def test_second_order_agrees_with_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x, y, u, v = torch.randn(4, 2), torch.randn(4, 1), torch.randn(4, 2), torch.randn(4, 1)
    x, y, u, v = (t.double() for t in (x, y, u, v))
    f = FastWeights(model, square, lr=0.3, steps=3, second_order=True)

    def outer():
        return square(f.predict(f.adapt(f.begin(), x, observed=y), u), v)

    outer().backward()
    p = model[0].weight
    slope, eps = p.grad[1, 0].item(), 1e-6
    with torch.no_grad():
        p[1, 0] += eps
        up = outer().item()
        p[1, 0] -= 2 * eps
        down = outer().item()
        p[1, 0] += eps
    assert slope == pytest.approx((up - down) / (2 * eps), rel=1e-6)
    f.second_order = False
    model.zero_grad()
    outer().backward()
    assert abs(p.grad[1, 0].item() - slope) > 1e-3 * abs(slope)  # and the first order is another number


def nodes(t):
    seen, todo = set(), [t.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [n for n, _ in node.next_functions]
    return len(seen)


def test_turns_do_not_pile_up_a_tape():
    model = Line()
    f = FastWeights(model, square, second_order=True)
    x = torch.ones(2).double()
    added, counts = f.begin(), []
    for _ in range(4):
        added = f.adapt(added, x, observed=2 * x)
        counts.append(nodes(f.predict(added, x).sum()))
    assert counts[1] == counts[3]


class World(nn.Module):
    """Where action `a` leads from place `n` of a ring of eight: a one-hot guess."""

    def __init__(self):
        super().__init__()
        self.action, self.out = nn.Embedding(4, 16), nn.Sequential(nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 8))

    def forward(self, n, a):
        return self.out(torch.cat((F.one_hot(n, 8).float(), self.action(a)), -1))


@pytest.mark.slow
def test_a_hidden_rule_is_learned_within_ten_turns_and_an_unchanged_one_costs_nothing():
    """The model knows one meaning of four actions. In an episode they may mean others; nobody says so."""
    torch.manual_seed(0)
    model, places = World(), torch.arange(8).repeat_interleave(4)
    actions = torch.arange(4).repeat(8)
    shifts = torch.tensor([1, -1, 2, -2])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(places, actions), (places + shifts[actions]) % 8).backward()
        optimizer.step()
    f = FastWeights(model, F.cross_entropy, chosen=("action",), lr=1.0, steps=3)
    gen, frozen, adapted, kept = torch.Generator().manual_seed(1), [], [], []
    before = bytes_of(model)
    for order in ([1, 0, 2, 3], [2, 3, 0, 1], [3, 2, 1, 0], [1, 2, 3, 0]):
        for rule, losses in ((shifts[order], adapted), (shifts, kept)):
            added = f.begin()
            for _ in range(10):
                n, a = (torch.randint(k, (4,), generator=gen) for k in (8, 4))
                added = f.adapt(added, n, a, observed=(n + rule[a]) % 8)
            right = (places + rule[actions]) % 8
            losses.append(F.cross_entropy(f.predict(added, places, actions), right).item())
            if losses is adapted:
                frozen.append(F.cross_entropy(model(places, actions), right).item())
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    assert mean(adapted) < 0.7 * mean(frozen), (adapted, frozen)
    assert mean(kept) < 0.02 and bytes_of(model) == before
