"""HRM-Text against transformers' own, forward and backward; its credit rule, its masks, its norms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from innerloop import grad
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.learn.stream import ExampleStream, to_batch
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.lm.decoding import CachedPass
from innerloop.parts.attention import context_of
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import Net
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.tasks import get
from innerloop.weights.hrm_text import Config, HRMText, credited, guided, strip_think

END = 5  # ends the prompt
STEPS = 100
TINY = NetConfig(
    vocab=9, seq=12, rows=1, hidden_size=32, heads=2, layers=2, multiple_of=32, block="gated", norm="magic",
    mask="prefix", separator=END, prefix=0, puzzle_emb_size=0,
)  # fmt: skip
ROWS = torch.tensor([[1, 2, 3, END, 4, 6, 7, 8, 2, 1, 3, 4], [8, END, 1, 2, 3, 4, 6, 7, 8, 6, 4, 2]])
PROMPT = torch.tensor([4, 2])


def ask(rows=ROWS):
    return Question(rows, torch.zeros(len(rows), dtype=torch.long))


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return HRMText(Config(replace(TINY, **changes), dtype="float32"))


def theirs(ours, taped):
    """transformers' model with the weights of `ours`; `taped` low calls carry gradient in each of the two cycles."""
    from transformers import HrmTextConfig, HrmTextForCausalLM

    inner = ours.low.blocks[0].mlp.down.weight.shape[1]
    config = HrmTextConfig(
        vocab_size=9, hidden_size=32, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=2, head_dim=16,
        H_cycles=2, L_cycles=3, L_bp_cycles=taped, rms_norm_eps=1e-5, embedding_scale=32**0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4}, attn_implementation="sdpa",
    )  # fmt: skip
    model = HrmTextForCausalLM(config).float().train()
    state = {
        "model.embed_tokens.weight": ours.embed.tokens.weight,
        "model.z_L_init": ours.l0,
        "lm_head.weight": ours.head.weight,
    }
    for name, net in (("L_module", ours.low), ("H_module", ours.high)):
        for i, block in enumerate(net.blocks):
            q, k, v = block.mix.qkv.weight.chunk(3)
            gate, up = block.mlp.up.weight.chunk(2)
            named = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v}
            named |= {"self_attn.gate_proj": block.mix.gate.weight, "self_attn.o_proj": block.mix.out.weight}
            named |= {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": block.mlp.down.weight}
            state |= {f"model.{name}.layers.{i}.{key}.weight": w for key, w in named.items()}
    model.load_state_dict({k: v.detach() for k, v in state.items()})
    return model


def in_prompt(separator=END):
    return (torch.arange(12) < PROMPT[:, None]).long() if separator else torch.ones(2, 12, dtype=torch.long)


@pytest.mark.parametrize("changes", [{}, {"mask": "causal"}, {"separator": 0}])
def test_forward_parity_with_transformers(changes):
    ours = made(**changes)
    kinds = in_prompt(changes.get("separator", END)) if changes.get("mask") != "causal" else torch.zeros(2, 12).long()
    with torch.no_grad():
        a = think(ours, ask(), 1).answer.logits
        b = theirs(ours, [2]).eval()(input_ids=ROWS, token_type_ids=kinds, use_cache=False).logits
    assert a.shape == b.shape == (2, 12, 9) and b.std() > 0.3
    assert (a - b).abs().max() <= 1e-5


@pytest.mark.parametrize(("k", "taped"), [(3, [0, 1]), (4, [0, 2]), (5, [0, 3]), (8, [3, 3])])
def test_gradient_parity_with_transformers(k, taped):
    """Theirs tapes both high calls and so many low ones of each cycle: with these lists, our K. K = 2 it cannot."""
    ours = made()
    ours.grad = credited(k, 2)
    labels = torch.where(torch.arange(12) < PROMPT[:, None] - 1, -100, ROWS.roll(-1, 1))
    labels[:, -1] = -100
    model = theirs(ours, taped)
    for loop, logits in (
        (ours, think(ours, ask(), 1).answer.logits),
        (model, model(input_ids=ROWS, token_type_ids=in_prompt(), use_cache=False).logits),
    ):
        loop.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).backward()
    pairs = [(ours.embed.tokens.weight, model.model.embed_tokens.weight), (ours.head.weight, model.lm_head.weight)]
    for net, stack in ((ours.low, model.model.L_module), (ours.high, model.model.H_module)):
        for block, layer in zip(net.blocks, stack.layers, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            parts = [getattr(attention, f"{n}_proj").weight.grad for n in "qkv"]
            pairs += [(block.mix.qkv.weight, parts), (block.mix.gate.weight, attention.gate_proj.weight)]
            pairs += [(block.mix.out.weight, attention.o_proj.weight), (block.mlp.down.weight, mlp.down_proj.weight)]
            pairs += [(block.mlp.up.weight, [mlp.gate_proj.weight.grad, mlp.up_proj.weight.grad])]
    for mine, other in pairs:
        want = torch.cat(other) if isinstance(other, list) else other.grad
        assert want.abs().max() > 1e-4
        assert (mine.grad - want).abs().max() <= 1e-5


def by_hand(loop, x, high, low):
    """The official loop in plain words: the last `high` calls of h and the last `low` of l under the tape."""
    look, (h, l) = context_of(loop.c.net, x), loop.init(x)
    for i in range(2):
        for k in range(3 * i, 3 * i + 3):
            with torch.set_grad_enabled(k >= 6 - low):
                l = loop.low(l + h, context=look)
        with torch.set_grad_enabled(i >= 2 - high):
            h = loop.high(h + l, context=look)
    return loop.head(h)


@pytest.mark.parametrize(("k", "high", "low"), [(2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 2, 3), (8, 2, 6)])
def test_as_many_calls_are_taped_as_k_says_and_they_are_the_right_ones(k, high, low):
    loop = made()
    loop.grad = credited(k, 2)
    calls = {"low": 0, "high": 0}
    hooks = [
        getattr(loop, name).register_forward_hook(
            lambda *_, name=name: calls.update({name: calls[name] + torch.is_grad_enabled()})
        )
        for name in calls
    ]
    loss = think(loop, ask(), 1).answer.logits.square().mean()
    assert calls == {"low": low, "high": high} and sum(calls.values()) == k
    for hook in hooks:
        hook.remove()
    loss.backward()
    got = {n: p.grad for n, p in loop.named_parameters()}
    loop.zero_grad()
    by_hand(loop, ask(), high, low).square().mean().backward()
    for name, p in loop.named_parameters():
        if p.grad is None:
            assert got[name] is None and name == "embed.tokens.weight" and k == 2
        else:
            assert torch.equal(got[name], p.grad)


def test_credit_grows_over_the_first_fifth():
    loop = made()

    def taped():
        count = []
        loop.grad(loop.schedule, lambda name, s: count.append(torch.is_grad_enabled()), None)
        return sum(count)

    assert taped() == 5  # a loop that nobody tunes
    grown = []
    for progress in (0.0, 0.05, 0.0667, 0.13, 0.1334, 0.199, 0.2, 0.5, 1.0):
        loop.set_progress(progress)
        grown.append(taped())
    assert grown == [2, 2, 3, 3, 4, 4, 5, 5, 5]
    with pytest.raises(InputError, match="2 or more"):
        credited(1, 2)


def moved(loop, place):
    changed = ROWS.clone()
    changed[0, place] = 7 if changed[0, place] == 8 else 8
    with torch.no_grad():
        a, b = (think(loop, ask(rows), 1).answer.logits[0] for rows in (ROWS, changed))
    return (a - b).abs().amax(-1) > 1e-6


def test_a_prompt_is_read_both_ways_and_a_response_in_order():
    loop = made()
    for place in (1, 2):  # in the prompt: everything hears of it
        assert moved(loop, place).all()
    for place in range(4, 12):
        assert not moved(loop, place)[:place].any() and moved(loop, place)[place:].any()
    strict = made(mask="causal")
    assert not moved(strict, 2)[:2].any() and moved(strict, 2)[2:].all()


def sums(digits=1, layers=1):
    """A task, and a tiny model of it."""
    task = get("sums", digits=digits)
    size = replace(TINY, layers=layers, vocab=task.vocab, seq=task.shape[1], separator=task.separator)
    torch.manual_seed(0)
    return task, HRMText(Config(size, dtype="float32"))


def test_only_the_response_is_learned():
    """The gradient of the loss is zero at the prompt's logits and at padding, and the mean is over the response."""
    task, loop = sums(2)
    s = task.make(8, seed=0)
    batch = to_batch(s.inputs, s.labels, s.puzzle, "cpu")
    out = unrolled_step(loop, batch, Unroll(1), 1, None, "softmax")
    out.answer.logits.retain_grad()
    out.losses["lm_loss"].backward()
    asked = torch.from_numpy(s.labels) > 0
    felt = out.answer.logits.grad.abs().sum(-1) > 0
    assert torch.equal(felt, asked) and not asked.all() and asked.any(1).all()
    nll = F.cross_entropy(
        out.answer.logits.flatten(0, 1), torch.from_numpy(s.labels).long().flatten(), reduction="none"
    )
    want = (nll.view(8, -1) * asked).sum(1) / asked.sum(1)
    assert out.losses["lm_loss"].item() == pytest.approx(want.sum().item(), rel=1e-5)


@pytest.mark.slow
def test_a_last_norm_keeps_64_calls_at_size_one():
    size = replace(TINY, hidden_size=128, heads=4, layers=4, mask="none")
    rms = {}
    for norm in ("magic", "pre"):
        torch.manual_seed(0)
        net, z, rms[norm] = Net(replace(size, norm=norm)), torch.randn(4, 12, 128), []
        with torch.no_grad():
            for _ in range(64):
                z = net(z)
                rms[norm].append(z.square().mean().sqrt().item())
    assert all(abs(r - 1) < 0.01 for r in rms["magic"])
    assert rms["pre"][7] > 2.5 and rms["pre"][31] > 8 and rms["pre"][63] > 16  # a line without end: 8.4, 35, 72


@pytest.mark.slow
def test_more_credit_is_more_gradient():
    """On untrained nets the full gradient's norm is about 1.4 times that of K = 5, and 2.2 times that of K = 2."""
    loop, norms = made(hidden_size=64), {}
    for k in (2, 5, 8):
        loop.grad, norms[k] = credited(k, 2), []
        for seed in range(20):
            draw = torch.Generator().manual_seed(seed)
            rows, labels = (torch.randint(1, 9, (1, 12), generator=draw) for _ in "xy")
            loop.zero_grad()
            F.cross_entropy(think(loop, ask(rows), 1).answer.logits[0], labels[0]).backward()
            norms[k].append(sum(p.grad.square().sum() for p in loop.parameters() if p.grad is not None).sqrt())
    means = {k: torch.stack(n).mean().item() for k, n in norms.items()}
    assert 1.2 < means[8] / means[5] < 1.8 and 1.6 < means[8] / means[2] < 3


def test_guidance_moves_away_from_the_weaker_self():
    loop = made()
    with torch.no_grad():
        strong = think(loop, ask(), 1).answer.logits
        first = loop.step(loop.init(ask()), ask(), loop.schedule[:4], grad.full)
        weak = loop.read(first).logits
        assert torch.allclose(guided(loop, ask(), 1.0), strong, atol=1e-6)
        assert torch.allclose(guided(loop, ask(), 0.0), weak, atol=1e-6)
        assert torch.allclose(guided(loop, ask(), 2.5), 2.5 * strong - 1.5 * weak, atol=1e-5)
    assert (strong - weak).abs().max() > 0.1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("a<think>b</think>c", "ac"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("a<think>b<think>c</think>", "a"),
        ("a<think>b", "a"),
        ("a</think>b<think>c</think>d", "abd"),
        ("<think></think>a<think>x\ny</think>\nb", "a\nb"),
        ("", ""),
    ],
)
def test_thoughts_are_stripped(text, kept):
    assert strip_think(text) == kept


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=[pytest.mark.slow] * (c in ("finite at 4x depth", "batch independence"))) for c in CHECKS],
)
@pytest.mark.parametrize("changes", [{"mask": "causal"}, pytest.param({"separator": 3}, marks=pytest.mark.slow)])
def test_the_contract_holds_where_places_are_hidden(check, changes):
    size = replace(TINY, vocab=6, seq=16, separator=0)
    made = lambda: HRMText(Config(replace(size, **changes), dtype="float32"))  # noqa: E731
    CHECKS[check](Subject("hrm_text", made, sample_question()))


def test_decoding_from_a_cache_equals_reading_at_once():
    """One slot a call and layer; the prompt is read in one piece, as its places see each other."""
    loop, x, cache, said = made(), ask(ROWS[:1]), Cache(1, 12), []
    with torch.no_grad():
        want = think(loop, x, 1).answer.logits
        for first, places in ((0, 4), *((i, 1) for i in range(4, 12))):
            cache.at(torch.arange(first, first + places)[None], first + places)
            said.append(think(CachedPass(loop, cache), x._replace(cache=cache), 1).answer.logits)
            cache.done(1)
    assert (torch.cat(said, 1) - want).abs().max() < 1e-5
    assert len(cache.kept) == 8 * 2  # transformers' count too: layers * H_cycles * (L_cycles + 1)


@pytest.mark.slow
def test_it_learns_sums_and_writes_what_it_reads():
    """Half trained, exact accuracy under teacher forcing is that of greedy decoding, sum by sum."""
    task, loop = sums()
    loop.train()
    s, plan = task.make(2000, seed=0), Unroll(1)
    optimizer = torch.optim.AdamW(loop.parameters(), lr=3e-3, weight_decay=0.1)
    feed = ExampleStream(s, None, 0)
    first = None
    for step in range(STEPS):
        loop.set_progress(step / STEPS)
        batch = feed.fill(torch.ones(32, dtype=torch.bool), 32 * step)
        loss = unrolled_step(loop, batch, plan, 1, None, "softmax").losses["lm_loss"] / 32
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loop.eval()

    def read(rows):
        x = Question(torch.from_numpy(rows).long(), torch.zeros(len(rows), dtype=torch.long))
        with torch.no_grad():
            return think(loop, x, 1).answer.logits.argmax(-1).numpy().astype(np.uint8)

    test = task.make(200, seed=1)
    forced = task.score_batch(test.inputs, read(test.inputs), test.labels)[0]
    written = (task.complete(read, test.inputs) == test.inputs).all(1)
    assert np.array_equal(forced, written)
    assert loss.item() < 0.5 * first and 0.3 < forced.mean() < 0.98
