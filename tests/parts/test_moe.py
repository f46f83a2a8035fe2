"""Mixture of experts: both forms, routing, balance without a loss, and the layer against transformers."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts import moe as part
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import Net
from innerloop.parts.moe import Config, MoE, balance, max_violation, mix_dense, mix_sorted, sequence_balance

SMALL = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=4, layers=2, multiple_of=32, prefix=0, puzzle_emb_size=0
)
FEW = Config(inner=12, experts=8, chosen=3, groups=4, kept=2, shared=1, scale=2.5)


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


def skewed(c=FEW, std=0.3):
    """A layer whose bias already prefers some experts."""
    layer = MoE(SMALL, c)
    layer.bias.normal_(0, std)
    return layer


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_sorted_equals_dense(dtype, tol):
    layer, x = skewed(), torch.randn(3, 5, 32, dtype=dtype, requires_grad=True)
    if dtype == torch.float64:
        layer = layer.double()
    ys = []
    for form in (mix_dense, mix_sorted):
        y = form(x, layer.route(x), layer.up, layer.down)
        wrt = (x, layer.router.weight, layer.up, layer.down)
        ys.append((y, *gradients(y.to(torch.promote_types(dtype, torch.float32)), wrt)))
    for a, b in zip(*ys, strict=True):
        assert (a - b).abs().max() <= tol * max(1.0, b.abs().max())


def test_an_expert_nobody_chose_has_no_gradient():
    layer, x = MoE(SMALL, FEW), torch.randn(2, 3, 32)
    layer.bias[:2] = -9.0  # a whole group
    y = layer(x)
    up = gradients(y, (layer.up,))[0]
    assert not up[:2].any() and up[2:].any()


def test_groups_limit_the_choice():
    layer = skewed()
    chosen = layer.route(torch.randn(200, 32)).chosen
    groups = torch.nn.functional.one_hot(chosen // 2, 4).amax(1).sum(1)
    assert groups.max() == 2 and chosen.sort(-1).values.diff(dim=-1).min() > 0
    free = MoE(SMALL, replace(FEW, kept=4))
    free.load_state_dict(layer.state_dict())
    x = torch.randn(200, 32)
    want = (free.route(x).scores + free.bias).topk(3, -1).indices.sort(-1).values
    assert torch.equal(free.route(x).chosen.sort(-1).values, want)


def test_the_bias_chooses_but_is_in_no_weight_and_gets_no_gradient():
    layer, x = MoE(SMALL, FEW), torch.randn(50, 32)
    before = layer.route(x)
    layer.bias.fill_(0.7)  # the same for all: no choice changes
    after = layer.route(x)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    layer.bias.normal_(0, 0.5)
    routes = layer.route(x)
    assert not torch.equal(routes.chosen, before.chosen)
    picked = routes.scores.gather(-1, routes.chosen)
    assert torch.allclose(routes.weights, 2.5 * picked / picked.sum(-1, keepdim=True))
    assert not layer.bias.requires_grad and "bias" not in dict(layer.named_parameters())
    layer(x).sum().backward()
    assert layer.bias.grad is None and layer.router.weight.grad.any()


def test_no_place_depends_on_another_and_none_is_dropped():
    layer, x = skewed(), torch.randn(4, 9, 32)
    layer.bias[3] = 9.0  # everybody wants one expert
    together = layer(x)
    for b in range(4):
        for i in range(9):
            assert (layer(x[b : b + 1, i : i + 1]) - together[b, i]).abs().max() <= 1e-6


def test_scores_are_wide_whatever_the_activations():
    layer, x = skewed(), torch.randn(40, 32).bfloat16()
    routes = layer.route(x)
    assert routes.scores.dtype == torch.float32 and layer(x).dtype == torch.bfloat16
    assert torch.equal(routes.chosen, layer.route(x.float()).chosen)


def test_loads_are_counted_while_training_and_used_up_by_one_update():
    layer, x = skewed(), torch.randn(4, 9, 32)
    layer.eval()(x)
    assert not layer.load.any()
    layer.train()(x), layer(x)  # two micro-batches, one update
    count = torch.bincount(layer.route(x).chosen.flatten(), minlength=8)
    assert torch.equal(layer.load, 2 * count)
    before = layer.bias.clone()
    balance(torch.nn.Sequential(layer), rate=0.01)
    assert torch.allclose(layer.bias - before, 0.01 * torch.sign(count.float().mean() - count)) and not layer.load.any()


def test_loads_of_all_processes_count(monkeypatch):
    """As if another process had seen only the expert that is idle here."""
    layer = MoE(SMALL, FEW)
    layer.load.copy_(torch.tensor([9, 1, 1, 1, 1, 1, 1, 0]))
    monkeypatch.setattr(part.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(part.dist, "all_reduce", lambda t: t.add_(torch.tensor([0, 0, 0, 0, 0, 0, 0, 50])))
    balance(layer, rate=1.0)
    assert layer.bias.tolist() == [-1.0 if load > 65 / 8 else 1.0 for load in (9, 1, 1, 1, 1, 1, 1, 50)]


def simulate(rate, steps=300, experts=16, chosen=2, seed=0):
    """MaxVio before and after balancing a router that favours some experts strongly, on unseen places."""
    torch.manual_seed(seed)
    layer = MoE(SMALL, Config(inner=4, experts=experts, chosen=chosen, groups=1, kept=1, shared=0, scale=1.0))
    layer.router.weight.data.normal_(0, 0.05)
    lean = torch.randn(32)
    layer.router.weight.data.add_(0.04 * torch.randn(experts, 1) * lean)

    def loads():
        return layer.route(torch.randn(4096, 32) + lean).chosen.flatten()

    worst = lambda: max_violation(torch.bincount(loads(), minlength=experts)).item()  # noqa: E731
    first = worst()
    for _ in range(steps):
        layer.load.scatter_add_(0, c := loads(), torch.ones_like(c))
        balance(layer, rate)
    return first, worst()


@pytest.mark.slow
def test_balance_comes_without_a_loss():
    first, last = simulate(1e-3)
    _, never = simulate(0.0)
    _, slow = simulate(1e-4)
    assert first > 3 and last < 0.2, (first, last)
    assert last < slow < never and never > 2, (last, slow, never)


def test_the_sequence_loss_is_one_where_all_experts_are_used_alike_and_more_otherwise():
    scores = torch.full((1, 4, 8), 0.5)
    even = part.Routes(scores, torch.arange(8).view(1, 4, 2), scores[..., :2])
    assert sequence_balance(even).item() == pytest.approx(1.0)
    lopsided = part.Routes(
        scores.index_fill(-1, torch.tensor([0, 1]), 0.9), torch.tensor([0, 1]).expand(1, 4, 2), scores
    )
    assert sequence_balance(lopsided).item() > 1.2
    layer, x = MoE(SMALL, FEW), torch.randn(3, 16, 32)
    loss = sequence_balance(layer.route(x))
    assert loss.shape == (3,) and gradients(loss, (layer.router.weight,))[0].any()
    assert torch.allclose(loss[1], sequence_balance(layer.route(x[1:2]))[0])
    with pytest.raises(InputError, match="whole sequences"):
        sequence_balance(layer.route(x[0]))


def test_the_layer_equals_that_of_transformers():
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = DeepseekV3Config(
        hidden_size=32, moe_intermediate_size=12, n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
        n_shared_experts=1, routed_scaling_factor=2.5, norm_topk_prob=True,
    )  # fmt: skip
    theirs, ours = DeepseekV3MoE(config), MoE(SMALL, FEW)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    theirs.gate.e_score_correction_bias.normal_(0, 0.3)
    shared = theirs.shared_experts
    pairs = [
        (ours.router.weight, [theirs.gate.weight]),
        (ours.up, [theirs.experts.gate_up_proj]),
        (ours.down, [theirs.experts.down_proj]),
        (ours.shared.up.weight, [shared.gate_proj.weight, shared.up_proj.weight]),
        (ours.shared.down.weight, [shared.down_proj.weight]),
    ]
    for mine, yours in pairs:
        mine.data.copy_(torch.cat([t.detach() for t in yours]))
    ours.bias.copy_(theirs.gate.e_score_correction_bias)
    x = torch.randn(3, 16, 32, requires_grad=True)
    y, y_ = ours(x), theirs(x)
    assert (y - y_).abs().max() <= 1e-5
    got = gradients(y, [x, *(p for p, _ in pairs)])
    want = iter(gradients(y_, [x, *(t for _, yours in pairs for t in yours)]))
    for a, count in zip(got, (1, *(len(yours) for _, yours in pairs)), strict=True):
        b = torch.cat([next(want) for _ in range(count)])
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())


def test_the_work_is_that_of_a_swiglu():
    """Two experts and the shared one of eight: what a place uses has as many weights as the plain block's MLP."""
    config = NetConfig(prefix=0, puzzle_emb_size=0)
    c, plain = Config.of(config), Net(replace(config, layers=1)).blocks[0].mlp
    used = 3 * config.hidden_size * c.inner * (c.chosen + c.shared)
    assert used == sum(p.numel() for p in plain.parameters())


def test_configs_are_checked_at_the_door():
    for wrong in ({"groups": 3}, {"kept": 5}, {"chosen": 5}, {"chosen": 0}):
        with pytest.raises(InputError):
            replace(FEW, **wrong)
