"""What attention may look at: masks against their definition, the fused kernel against the plain one, the gate."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.parts.attention import (
    Attention,
    AttentionContext,
    GatedAttention,
    attend_plain,
    attention_context,
    context_of,
    prefix_lengths,
    reading_of,
)
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import BLOCKS, Net

SIZE = NetConfig(
    vocab=6, seq=10, rows=1, hidden_size=16, heads=2, layers=2, multiple_of=16, prefix=0, puzzle_emb_size=0
)
CAUSAL = replace(SIZE, mask="causal")
PREFIX = replace(SIZE, mask="prefix", separator=5, prefix=1)
ROWS = torch.tensor(
    [[1, 2, 5, 1, 1, 5, 2, 2, 0, 0], [5, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1] * 10, [1] * 9 + [5]]
)  # a prompt of 3; of 1; no separator; all


def asked(rows):
    return Question(rows, rows.new_zeros(len(rows)))


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


def same(a, b, tol):
    assert (a.detach().float() - b.detach().float()).abs().max() <= tol * max(1.0, b.detach().abs().max().item())


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("rows", [1, 2])
def test_plain_masked_attention_equals_the_fused_kernel(dtype, tol, rows):
    q = torch.randn(2, 3, 7, 8, dtype=dtype, requires_grad=True)
    k, v = (torch.randn(2, 3, 17, 8, dtype=dtype, requires_grad=True) for _ in range(2))
    mask = torch.rand(rows, 1, 7, 17) < 0.4
    mask[..., 0] = True
    ours, theirs = attend_plain(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask)
    same(ours, theirs, tol)
    for a, b in zip(gradients(ours, (q, k, v)), gradients(theirs, (q, k, v)), strict=True):
        same(a, b, tol)


def test_prompts_end_with_the_first_separator():
    assert prefix_lengths(PREFIX, ROWS).tolist() == [4, 2, 11, 11]  # one place of the prefix before them
    assert prefix_lengths(replace(PREFIX, mask="causal"), ROWS).tolist() == [0] * 4
    assert prefix_lengths(replace(PREFIX, separator=0), ROWS).tolist() == [11] * 4
    assert prefix_lengths(replace(PREFIX, mask="none"), ROWS).tolist() == [11] * 4


@pytest.mark.parametrize("config", [CAUSAL, PREFIX])
def test_a_mask_shows_what_is_earlier_and_the_prompt(config):
    prompt = prefix_lengths(config, ROWS)
    mask = context_of(config, asked(ROWS)).mask.expand(4, 1, config.length, config.length)[:, 0]
    for b in range(4):
        for i in range(config.length):
            for j in range(config.length):
                within = i < prompt[b] and j < prompt[b]  # both in the prompt
                assert mask[b, i, j] == (within or j <= i)


@pytest.mark.parametrize("config", [CAUSAL, PREFIX])
def test_a_text_of_a_row_does_not_see_the_others(config):
    """Texts end with token 4; each has a prompt up to the first 5, and sees nothing of the text before it."""
    rows = torch.tensor([[1, 5, 2, 4, 1, 1, 5, 3, 4, 0], [5, 4, 4, 1, 1, 5, 5, 2, 2, 2]])
    config = replace(config, end=4)
    mask = context_of(config, asked(rows)).mask[:, 0]
    for b, row in enumerate(rows.tolist()):
        texts, first = [], 0
        for i, token in enumerate(row):
            if token == 4 or i == len(row) - 1:
                texts.append((first, i))
                first = i + 1
        for i in range(config.length):
            for j in range(config.length):
                p, q = i - config.prefix, j - config.prefix  # the place of a prefix goes with the first text
                mine, other = (next(n for n, (_, last) in enumerate(texts) if r <= last) for r in (p, q))
                begin, last = texts[mine]
                hits = [c for c in range(begin, last + 1) if row[c] == 5]
                prompt = (hits[0] if hits else last) if config.mask == "prefix" else -1
                assert mask[b, i, j] == (mine == other and (q <= p or (q <= prompt and p <= prompt))), (b, i, j)


@pytest.mark.parametrize("end", [0, 4])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_a_cache_reads_one_position_as_the_whole_row_does(mask, end):
    rows = torch.tensor([[1, 5, 2, 4, 1, 1, 5, 3, 4, 1], [5, 4, 4, 1, 1, 5, 5, 2, 2, 2], [1] * 10])
    config = replace(CAUSAL, mask=mask, separator=5, end=end)
    whole = reading_of(config, asked(rows))
    for places in torch.tensor([[0, 9, 4], [3, 2, 1], [9, 8, 7], [4, 4, 4]]):
        cache = Cache(3, 10)
        cache.at(places[:, None], 10)
        one = reading_of(config, asked(rows)._replace(cache=cache))
        for ours, theirs in ((one.first, whole.first), (one.last, whole.last)):
            assert torch.equal(ours, theirs.gather(1, places[:, None]))


def test_where_nothing_is_hidden_there_is_no_mask():
    assert context_of(SIZE, asked(ROWS)) is None
    assert attention_context(SIZE, reading_of(SIZE, asked(ROWS))) is None
    assert context_of(replace(PREFIX, separator=0), asked(ROWS)) is None
    assert not SIZE.causal and CAUSAL.causal and PREFIX.causal and not replace(PREFIX, separator=0).causal


@pytest.mark.parametrize("block", [k for k, b in BLOCKS.items() if getattr(b, "takes_context", False)])
def test_every_block_that_takes_a_causal_mask_obeys_it(block):
    net = Net(replace(CAUSAL, block=block)).double()
    x, look = torch.randn(2, 10, 16, dtype=torch.float64), context_of(CAUSAL, asked(ROWS[:2]))
    y = x.clone()
    y[:, 6] += 1
    moved = (net(y, context=look) - net(x, context=look)).abs().sum(-1) > 1e-9
    assert not moved[:, :6].any() and moved[:, 6:8].all()


@pytest.mark.parametrize("block", ["attention", "gated"])
def test_masked_places_are_as_if_cut_off(block):
    """With a causal mask the first places of a row do not know how long it is; and a full mask is none."""
    net = Net(replace(CAUSAL, block=block)).double()
    x, look = torch.randn(2, 10, 16, dtype=torch.float64), context_of(CAUSAL, asked(ROWS[:2]))
    whole = net(x, context=look)
    same(net(x[:, :4], context=AttentionContext(look.mask[..., :4, :4])), whole[:, :4], 1e-6)
    everything = AttentionContext(torch.ones(1, 1, 10, 10, dtype=torch.bool))
    same(net(x, context=everything), net(x), 1e-6)
    assert not torch.allclose(net(x), whole)


def test_the_gate_weighs_what_attention_says():
    torch.manual_seed(0)
    gated, plain = GatedAttention(SIZE), Attention(SIZE)
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if not k.startswith("gate")})
    x = torch.randn(3, 10, 16, requires_grad=True)
    read = F.linear(plain(x), torch.linalg.inv(plain.out.weight))  # what it says before `out`
    twin = F.linear(torch.sigmoid(F.linear(x, gated.gate.weight)) * read, gated.out.weight)
    same(gated(x), twin, 1e-4)
    same(gradients(gated(x), (x,))[0], gradients(twin, (x,))[0], 1e-3)
    gated.gate.weight.data.zero_()
    same(gated(x), 0.5 * plain(x), 1e-6)


def test_blocks_that_cannot_obey_a_mask_are_refused():
    with pytest.raises(InputError, match='block "conv" sees every place'):
        Net(replace(CAUSAL, block="conv", positions="none"))
    Net(replace(CAUSAL, mask="none", block="conv", positions="none"))


@pytest.mark.parametrize("wrong", [{"mask": "later"}, {"separator": 6}, {"separator": -1}, {"rope_base": 1.0}])
def test_sizes_are_checked_at_the_door(wrong):
    with pytest.raises(InputError):
        replace(SIZE, **wrong)


def test_the_base_of_rotary_positions_is_the_sizes():
    far = Attention(replace(SIZE, rope_base=5e4))
    assert far.cos[5, 3] == torch.tensor(5 * 5e4 ** (-3 / 4)).cos()
    assert far.cos[5, 0] == torch.tensor(5.0).cos()
