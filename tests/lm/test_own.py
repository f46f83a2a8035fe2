"""Our own language model: a loop in the weights that writes token after token, batched and cached."""

import json
from dataclasses import replace
from threading import Thread

import pytest
import torch

import innerloop
from innerloop import cli, recipes
from innerloop.budget import OverBudget, limited
from innerloop.data.questions import questions_of
from innerloop.errors import InputError
from innerloop.halt import never
from innerloop.ledger import counting
from innerloop.lm.cassette import Recorded
from innerloop.lm.decoding import TextJob, draw, sizes_of
from innerloop.lm.own import Own
from innerloop.parts.config import NetConfig
from innerloop.runs.run import override
from innerloop.tokens.answers import same
from innerloop.tokens.way import Asked, answer_many
from innerloop.tokens.ways import way_of
from innerloop.weights import get
from innerloop.weights.trm import TRM
from innerloop.weights.trm import Config as TRMConfig

CHARSET, PLACES = "0123456789+-*=>abc;", 48
NET = NetConfig(
    vocab=len(CHARSET) + 1, seq=PLACES, rows=1, hidden_size=32, heads=2, layers=1, multiple_of=16, norm="pre",
    mask="causal", prefix=0, puzzle_emb_size=0, end=len(CHARSET),
)  # fmt: skip
# system: (what of the net and of the config differs, depth)
LOOPS = {
    "looped": ({"norm": "magic", "layers": 2}, {}, 2),
    "looped mla": ({"norm": "magic", "block": "mla"}, {}, 2),
    "ut": ({"norm": "post"}, {}, 3),
    "ut tokens": ({"norm": "post"}, {"halting": "tokens"}, 3),
    "ut learned": ({"norm": "post", "positions": "learned"}, {}, 2),
    "huginn": ({"norm": "sandwich"}, {"prelude": 1, "coda": 1, "recurrence": 3}, 3),
    "hrm_text": ({"norm": "magic", "mask": "prefix", "separator": CHARSET.index(">") + 1}, {}, 1),
    "mor": ({}, {}, 3),
    "mor shared": ({}, {"kv": "shared"}, 3),
}
PROMPTS = ["1+2>", "45*36>", "a=7-3>", "0>", "1+2>"]


def loop_of(name, seed=0):
    """A loop with random weights, large enough that its texts differ."""
    net, config, _ = LOOPS[name]
    kind, described = get(name.partition(" ")[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loop = kind(described(net=replace(NET, **net), dtype="float32", **config))
        for p in loop.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=1.2 * p.shape[-1] ** -0.5)
    return loop


def own(name="looped", loop=None, **how):
    made = {"charset": CHARSET, "end": ";", "places": PLACES, "depth": LOOPS[name][2]} | how
    return Own(loop or loop_of(name), **made)


def texts(replies):
    return [[c.text for c in reply.completions] for reply in replies]


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "n": 2}, {"temperature": 0.9, "top_p": 0.8}])
def test_a_batch_writes_what_each_writes_alone_and_what_it_writes_without_a_cache(name, how):
    """Four rows for ten texts, so that rows are refilled; prompts of several lengths, two of them equal."""
    loop = loop_of(name)
    ask = {"max_new_tokens": 20, "seed": 4, "logprobs": True, **how}
    together = own(name, loop, rows=4).generate(PROMPTS, **ask)
    alone = [own(name, loop, rows=1).generate([p], **ask)[0] for p in PROMPTS]
    whole = own(name, loop, rows=4, policy=None).generate(PROMPTS, **ask)
    assert texts(together) == texts(alone) == texts(whole)
    assert len({c.text for r in together for c in r.completions}) >= 3, "the texts differ, so equality says something"
    tolerance = 1e-3 if name in ("huginn", "ut tokens") else 2e-5  # random weights amplify rounding, step after step
    for a, b in zip(together, whole, strict=True):
        for x, y in zip(a.completions, b.completions, strict=True):
            assert all(abs(p - q) < tolerance for p, q in zip(x.logprobs, y.logprobs, strict=True))


@pytest.mark.parametrize("name", ["looped", "huginn"])
def test_what_it_says_of_its_tokens_is_what_scoring_says(name):
    model = own(name)
    (reply,) = model.generate(["45*36>"], max_new_tokens=12, logprobs=True)
    (scored,) = model.score(["45*36>"], [reply.completions[0].text])
    assert scored == pytest.approx(reply.completions[0].logprobs, abs=1e-3)


def test_samples_follow_their_distribution():
    logits = torch.tensor([[9.0, 1.0, 2.0, 0.0]]).expand(20_000, -1)
    u = (torch.arange(20_000) + 0.5) / 20_000
    for temperature in (1.0, 0.5):
        token, logprob = draw(logits, torch.full((20_000,), temperature), torch.ones(20_000), u)
        p = torch.softmax(logits[0, 1:] / temperature, -1)
        found = torch.bincount(token, minlength=4) / 20_000
        assert found[0] == 0 and (found[1:] - p).abs().max() < 1e-3
        assert torch.allclose(logprob, torch.log_softmax(logits[0, 1:], -1)[token - 1], atol=1e-5)
    token, _ = draw(logits, torch.ones(20_000), torch.full((20_000,), 0.7), u)
    assert set(token.tolist()) == {1, 2}, "0.67 alone does not reach 0.7"
    greedy, _ = draw(logits, torch.zeros(20_000), torch.ones(20_000), u)
    assert set(greedy.tolist()) == {2}


def test_a_loop_that_halts_takes_its_steps_token_by_token():
    """Rows end their latent steps at different depths, in one batch as alone; what they spent is counted."""

    def confident(loop, old, new, steps):
        return loop.read(new).logits.amax((1, 2)) > 2.5

    loop, ask = loop_of("ut"), {"max_new_tokens": 16, "seed": 1}
    model = own("ut", loop, depth=6, halt=confident, rows=4)
    with counting() as cost:
        together = model.generate(PROMPTS, **ask)
    alone = [own("ut", loop, depth=6, halt=confident, rows=1).generate([p], **ask)[0] for p in PROMPTS]
    assert texts(together) == texts(alone)
    steps = sum(r.serial_steps for r in together)
    written = sum(r.tokens_out for r in together)
    assert 6 * 5 + written < steps < 6 * 5 + 6 * written and cost.serial_steps == cost.nfe == steps
    fixed = own("ut", loop, depth=6, halt=never).generate(PROMPTS, **ask)
    assert sum(r.serial_steps for r in fixed) == 6 * (5 + sum(r.tokens_out for r in fixed))


def test_costs_are_those_of_the_calls_and_are_charged_to_who_asked():
    model, spent = own("huginn", rows=8), {}
    assert (model.calls.pass_, model.calls.step) == (2, 1), "prelude and coda, and the core"

    def ask(i):
        with counting() as cost:
            model.generate([PROMPTS[i]], max_new_tokens=4 + i)
        spent[i] = cost

    threads = [Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, cost in spent.items():
        assert (cost.tokens_in, cost.completions) == (len(PROMPTS[i]), 1)
        assert cost.nfe == (1 + cost.tokens_out) * (2 + 3) and cost.serial_steps == (1 + cost.tokens_out) * 3


def test_a_budget_of_block_calls_or_flops_is_never_passed():
    model = own("huginn")
    with limited(nfe=5 * 8) as budget:
        (reply,) = model.generate(["45*36>"], max_new_tokens=30)
        assert reply.tokens_out == 7 and budget.nfe == 40
        with pytest.raises(OverBudget, match="nfe"):
            model.generate(["45*36>"], max_new_tokens=30)
    with limited(flops=model.flops_of_token * 15.5) as budget:
        (reply,) = model.generate(["45*36>"], max_new_tokens=30)
        assert reply.tokens_out == 9 and budget.flops == pytest.approx(model.flops_of_token * 15)


def test_threads_share_one_batch():
    model = own(rows=16)
    first = model.generate(PROMPTS, max_new_tokens=20)
    before, said = model.scheduler.rows.counters.ticks, {}
    threads = [
        Thread(target=lambda i=i: said.update({i: model.generate([PROMPTS[i]], max_new_tokens=20)[0]}))
        for i in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts([said[i] for i in range(5)]) == texts(first)
    assert model.scheduler.rows.counters.ticks - before < sum(r.tokens_out for r in first), "not one by one"


def test_a_failing_step_is_raised_and_the_next_call_works(monkeypatch):
    model = own()
    step = model.tokens.step
    monkeypatch.setattr(model.tokens, "step", lambda s, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.generate(PROMPTS, max_new_tokens=3)
    monkeypatch.setattr(model.tokens, "step", step)
    assert texts(model.generate(PROMPTS, max_new_tokens=3)) == texts(own().generate(PROMPTS, max_new_tokens=3))
    left = model.scheduler
    assert not len(left.rows) and not left._done and not left._dropped, "nothing of the failed call goes on"


def test_what_it_cannot_take_is_said():
    model = own()
    for prompt, says in (("1+x>", "does not know the character 'x'"), ([99], "holds an id"), ("", "is empty")):
        with pytest.raises(InputError, match=says):
            model.generate([prompt], max_new_tokens=4)
    with pytest.raises(InputError, match="give at least one"):
        model.score(["1" * 40], ["2" * 20])
    with pytest.raises(InputError, match="sees later places"):
        Own(TRM(TRMConfig(replace(NET, mask="none"))), charset=CHARSET, end=";", places=PLACES, depth=1)
    with pytest.raises(InputError, match="a character of the charset"):
        own(end="?")
    assert sizes_of(64) == [1, 2, 4, 8, 16, 32, 64] and sizes_of(5) == [1, 2, 3, 5]
    assert TextJob((1, 2), 3).temperature == 0


def test_characters_that_stand_for_several_are_spelled_out():
    model = own(expansions={"9": "1-2"})
    assert model.decode(model.encode("393")) == "31-23"
    (reply,) = model.generate(["1+2c>"], max_new_tokens=16, temperature=1.0, n=8, seed=1)
    plain = own().generate(["1+2c>"], max_new_tokens=16, temperature=1.0, n=8, seed=1)[0]
    assert [c.text for c in reply.completions] == [c.text.replace("9", "1-2") for c in plain.completions]
    assert [c.ids for c in reply.completions] == [c.ids for c in plain.completions] and "1-2" in str(reply)


@pytest.mark.slow
def test_a_run_is_trained_opened_and_asked(tmp_path, capsys):
    """The recipe, much shortened: a folder that opens as a language model, and answers in its modes."""
    small = {"lengths": [1, 3], "most": 4, "places": 24, "modes": ["direct", "chain"]}
    changes = ["data.task=nonadjacent", f"data.options={json.dumps(small)}", "data.count=3000", "data.holdout=100"]
    changes += ["config.net.hidden_size=32", "config.net.layers=2", "plan.steps=400", "plan.batch=24", "plan.ema=0.98"]
    changes += ["plan.check_every=200"]
    built = innerloop.build(override(recipes.get("chain"), changes))
    innerloop.fit(built, tmp_path / "run")
    model = innerloop.open_model(str(tmp_path / "run"))
    assert model.forms == {"direct": "d>", "chain": "c>"} and model.context == 24
    items = questions_of(built.task, 40)
    asked = [Asked(item) for item in items]
    for way in ("direct", "chain", "vote(3)", "budget(8)"):
        said = answer_many(way_of(way, model), asked, workers=8)
        right = sum(same(item.kind, s.answer, item.answer) for item, s in zip(items, said, strict=True))
        assert right >= 0.6 * len(items), f"{way}: {right} of {len(items)}"
        assert all(s.outcome == "answered" for s in said)
    with pytest.raises(InputError, match='"dots" needs worked examples'):
        answer_many(way_of("dots", model), asked[:1])
    recorded = Recorded(model, tmp_path / "calls.jsonl")
    replies = recorded.generate(["1,2d>"], max_new_tokens=4)
    again = Recorded.offline(tmp_path / "calls.jsonl")
    assert again.generate(["1,2d>"], max_new_tokens=4) == replies and (again.forms, again.cue) == (model.forms, "=")
    out = tmp_path / "macros.json"
    assert cli.main(["macros", str(tmp_path / "run"), "--out", str(out), "--questions", "40", "--most", "4"]) == 0
    found, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert found["asked"] == 40 and found["right"] >= 24 and "data.task=compressed" in printed
    with pytest.raises(InputError, match="learned sudoku"):
        innerloop.open_model(make_folder(tmp_path))


def make_folder(tmp_path):
    """The folder of a run that learned puzzles."""
    changes = ["data.count=20", "data.holdout=20", "plan.steps=1", "plan.check_every=1"]
    innerloop.fit(innerloop.build(override(recipes.get("sudoku4_trm"), changes)), tmp_path / "puzzles")
    return str(tmp_path / "puzzles")
