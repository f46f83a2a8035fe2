"""The contract of language models, over all backends: replies, limits, costs, refusals."""

from importlib.util import find_spec

import pytest
import tiny_models

from innerloop.budget import OverBudget, limited
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.endpoint import Endpoint
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.get import found
from innerloop.lm.hf import Transformers
from innerloop.lm.local import Local
from innerloop.lm.ngram import NGram
from innerloop.lm.own import Own
from innerloop.lm.protocol import CAPABILITIES, LanguageModel, MissingCapability, Reply, kind_of
from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import Cancelled, Watch, watching


def write(prompt, seed):
    """Counts up from the length of the prompt, differently for each seed."""
    return " ".join(str(len(prompt) + seed + i) for i in range(20)) + "\nand more"


@pytest.fixture(scope="module")
def server():
    with FakeServer(Scripted(write), key="secret") as made:
        yield made


@pytest.fixture(scope="module")
def smollm2():
    """SmolLM2 by llama.cpp, where both are on this machine."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install 'innerloop[local]'")
    path = found("smollm2")
    if path is None:
        pytest.skip("the weights are not here: innerloop get smollm2")
    made = Local(path, slots=4, context=256, threads=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def smollm2_hf():
    """SmolLM2 by transformers, where its weights and what reads them are on this machine."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install 'innerloop[local]'")
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed: pip install gguf accelerate")
    path = found("smollm2")
    if path is None:
        pytest.skip("the weights are not here: innerloop get smollm2")
    return Transformers(path, context=256, rows=8)


@pytest.fixture(scope="module")
def tiny_hf():
    return Transformers((tiny_models.model("llama", seed=13), tiny_models.tokenizer()), rows=4)


@pytest.fixture(
    params=[
        "scripted",
        "ngram",
        "chat",
        "completions",
        "responses",
        "local",
        "own",
        "hf",
        pytest.param("hf smollm2", marks=pytest.mark.slow),
    ]
)
def model(request, server, monkeypatch):
    if request.param == "scripted":
        return Scripted(write)
    if request.param == "ngram":
        return NGram.fit([f"{n % 9} + {n % 9} =" + write("x" * n, n) for n in range(40)], 3)
    if request.param == "own":
        return request.getfixturevalue("untrained")()
    fixtures = {"local": "smollm2", "hf": "tiny_hf", "hf smollm2": "smollm2_hf"}
    if request.param in fixtures:
        return request.getfixturevalue(fixtures[request.param])
    monkeypatch.setenv("KEY_OF_THE_TEST", "secret")
    return Endpoint(server.url, "any", api=request.param, key="KEY_OF_THE_TEST", retries=0)


def prompts_for(model, count=3):
    texts = [f"{i} + {i} =" for i in range(count)]
    return texts if "raw" in model.capabilities else [[{"role": "user", "content": t}] for t in texts]


def test_it_is_a_language_model_whose_capabilities_are_known(model):
    assert isinstance(model, LanguageModel) and model.capabilities <= set(CAPABILITIES) and model.context > 100


def test_each_prompt_has_its_reply_and_costs_what_the_ledger_says(model):
    prompts = prompts_for(model)
    with counting() as cost:
        replies = model.generate(prompts, max_new_tokens=12)
    assert len(replies) == 3 and all(len(r.completions) == 1 for r in replies)
    alone = [model.generate([p], max_new_tokens=12)[0] for p in prompts]
    assert [r.completions for r in replies] == [r.completions for r in alone], "as one by one"
    assert cost.tokens_in == sum(r.tokens_in for r in replies) and cost.completions == 3
    assert cost.tokens_out == sum(r.tokens_out for r in replies)
    for prompt, reply in zip(prompts, replies, strict=True):
        assert 0 < reply.tokens_in <= model.count_tokens(prompt)
        assert reply.completions[0].finish == "length" and 0 < reply.tokens_out <= 12
        assert Reply.from_json(reply.to_json()) == reply


def test_a_stop_text_ends_a_completion_and_is_left_out(model):
    prompts = prompts_for(model, 1)
    if "stop" not in model.capabilities:
        with pytest.raises(MissingCapability, match='"stop"'):
            model.generate(prompts, max_new_tokens=100, stop=("\n",))
        return
    (reply,) = model.generate(prompts, max_new_tokens=100, stop=("\n",))
    assert reply.completions[0].finish == "stop" and "\n" not in reply.completions[0].text
    assert reply.tokens_out < 100


def streams(model):
    """Whether it is an endpoint of an API that streams."""
    return isinstance(model, Endpoint) and model.api != "responses"


def test_watched_texts_are_those_of_nobody_watching_and_their_pieces_begin_them(model):
    """A backend that writes token by token gives pieces; a call after the watch is cancelled is not begun."""
    prompts, pieces = prompts_for(model, 2), []
    how = {"max_new_tokens": 20} | ({"stop": ("\n", "5")} if "stop" in model.capabilities else {})
    plain = [r.completions[0] for r in model.generate(prompts, **how)]
    with watching(Watch(pieces.append)) as watch:
        seen = [r.completions[0] for r in model.generate(prompts, **how)]
        assert seen == plain
        watch.cancel()
        with counting() as cost, pytest.raises(Cancelled):
            model.generate(prompts, **how)
        assert not cost.tokens_in and not cost.tokens_out
    for i, completion in enumerate(seen):
        text = "".join(p.text for p in pieces if p.completion == i)
        assert (completion.text.startswith(text) and len(completion.text) - len(text) <= 1) or not pieces
    assert bool(pieces) == (type(model) in (Own, Local) or streams(model))


def test_a_cancelled_call_ends_with_what_it_has_written(model):
    prompts, watch = prompts_for(model, 1), Watch()
    watch.piece = lambda piece: watch.cancel()
    if streams(model):
        with watching(watch), counting() as cost, pytest.raises(Cancelled):
            model.generate(prompts, max_new_tokens=60)
        assert cost.tokens_out == 60, "at its most, as no server says what a broken stream cost"
        return
    with watching(watch), counting() as cost:
        (reply,) = model.generate(prompts, max_new_tokens=60)
    assert cost.tokens_out == reply.tokens_out and (not watch.cancelled or reply.tokens_out < 30)


def test_several_completions_are_those_of_their_seeds(model):
    prompts = prompts_for(model, 1)
    if "n" not in model.capabilities:
        with pytest.raises(MissingCapability, match="several completions"):
            model.generate(prompts, max_new_tokens=8, n=3, temperature=1.0)
        return
    how = {"max_new_tokens": 8, "temperature": 1.0}
    with counting() as cost:
        (reply,) = model.generate(prompts, n=3, seed=5, **how)
    assert len({c.text for c in reply.completions}) == 3 and cost.completions == 3
    assert cost.tokens_in == reply.tokens_in, "the prompt is read once"
    same, other = (model.generate(prompts, n=3, seed=seed, **how)[0].completions for seed in (5, 9))
    assert reply.completions == same != other


def test_log_probabilities_are_one_a_token_or_refused(model):
    prompts = prompts_for(model, 1)
    if "logprobs" not in model.capabilities:
        with pytest.raises(MissingCapability):
            model.generate(prompts, max_new_tokens=8, logprobs=True)
        return
    (reply,) = model.generate(prompts, max_new_tokens=8, logprobs=True)
    assert 0 < len(reply.completions[0].logprobs) <= reply.tokens_out
    assert all(p <= 0 for p in reply.completions[0].logprobs)


def test_a_begun_completion_goes_on_and_is_not_repeated(model):
    prompts = prompts_for(model, 1)
    if "prefill" not in model.capabilities:
        with pytest.raises(MissingCapability, match="prefill"):
            model.generate(prompts, max_new_tokens=8, prefix="so ")
        return
    (begun,), (joined,) = (
        model.generate(p, max_new_tokens=8, prefix=x) for p, x in ((prompts, "so "), ([prompts[0] + "so "], ""))
    )
    assert begun.completions == joined.completions


def test_a_cap_is_never_passed_not_by_a_token(model):
    prompts = prompts_for(model)
    most = sum(model.count_tokens(p) for p in prompts)
    with limited(tokens=most + 20) as budget:
        model.generate(prompts, max_new_tokens=50)
        with pytest.raises(OverBudget):
            for _ in range(100):
                model.generate(prompts, max_new_tokens=50)
        assert budget.tokens_in + budget.tokens_out <= most + 20 and not any(budget.reserved.values())
    with limited(completions=2) as budget, pytest.raises(OverBudget, match="completions"):
        model.generate(prompts, max_new_tokens=5)
    assert budget.completions <= 2


def test_bad_calls_get_one_sentence(model):
    prompts = prompts_for(model, 1)
    for prompt, how, said in (
        (prompts, {"max_new_tokens": 0}, "max_new_tokens is 0"),
        (prompts, {"max_new_tokens": 5, "temperature": -1}, "temperature is -1"),
        (prompts, {"max_new_tokens": 5, "top_p": 0}, "top_p 0"),
        (prompts, {"max_new_tokens": 5, "seed": -1}, "seed is -1"),
        (prompts, {"max_new_tokens": 5, "stop": ("",)}, "stop is"),
        ("text", {"max_new_tokens": 5}, "takes a list of prompts"),
        ([], {"max_new_tokens": 5}, "takes a list of prompts"),
        ([3], {"max_new_tokens": 5}, "a prompt is a text, token ids, or messages"),
        (["\ud800"], {"max_new_tokens": 5}, "not valid Unicode"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            model.generate(prompt, **how)
        assert "\n" not in str(caught.value)
    long = " ".join(map(str, range(model.context)))
    with pytest.raises(InputError, match="the context of"):
        model.generate([long if "raw" in model.capabilities else [{"role": "user", "content": long}]], max_new_tokens=4)


def test_kinds_of_prompts():
    assert [kind_of(p) for p in ("", "a", [1, 2], [{"role": "user", "content": ""}])] == ["raw", "raw", "ids", "chat"]
    for bad in ([], [True], [-1], [{"role": "user"}], None, 5, [1, "a"]):
        with pytest.raises(InputError):
            kind_of(bad)
