"""Models of Hugging Face transformers: batches, caches, stops, ids, and folders that are none."""

import json
import warnings
from importlib.util import find_spec
from threading import Thread

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

import innerloop
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm import hf_loading
from innerloop.lm.get import found
from innerloop.lm.hf import Transformers
from innerloop.lm.protocol import MissingCapability

PROMPTS = ["1 + 1 =", "12 + 3 = 15\nso the answer is 15, and then", "7", "1 + 1 ="]
UNCACHED = "mamba"  # whose layers keep another state than keys and values


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_models.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return Transformers((tiny_models.model("llama", seed=13), tokenizer), rows=3)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_models.model("llama", seed=13).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def opened(kind, tokenizer, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if kind == UNCACHED else "error")
        return Transformers((tiny_models.model(kind), tokenizer), **how)


def completions(replies):
    return [c for reply in replies for c in reply.completions]


@pytest.mark.parametrize("kind", sorted(tiny_models.KINDS.keys() - {"bloom"}))
def test_a_batch_writes_what_each_writes_alone_and_what_it_writes_without_a_cache(kind, tokenizer):
    """Three rows for eight texts, so that rows are refilled; windows of 8 places, in all layers or in every other."""
    together, whole = opened(kind, tokenizer, rows=3), opened(kind, tokenizer, rows=3, cached=False)
    assert together.cached == (kind != UNCACHED) and not whole.cached
    for how in ({}, {"temperature": 1.0, "top_p": 0.9, "n": 2, "seed": 4}):
        ask = {"max_new_tokens": 14, "logprobs": True, **how}
        batch = completions(together.generate(PROMPTS, **ask))
        alone = [c for p in PROMPTS for c in completions(together.generate([p], **ask))]
        slow = completions(whole.generate(PROMPTS, **ask)) if together.cached else batch
        assert [c.ids for c in batch] == [c.ids for c in alone] == [c.ids for c in slow]
        for a, b, c in zip(batch, alone, slow, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
            assert a.logprobs == pytest.approx(c.logprobs, abs=1e-4)
        each = len(batch) // len(PROMPTS)
        assert [c.ids for c in batch[:each]] == [c.ids for c in batch[-each:]], "equal prompts, equal texts"


def test_it_writes_what_transformers_writes(model):
    """Greedy decoding against generate() of the package."""
    for prompt in PROMPTS:
        ids = torch.tensor([model.prompt_ids(prompt)])
        theirs = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :].tolist()
        (ours,) = completions(model.generate([prompt], max_new_tokens=20))
        assert list(ours.ids) == [i for i in theirs if i]


@torch.no_grad()
def test_log_probabilities_are_those_of_score_and_of_the_whole_text(model):
    prompt = "12 + 3 ="
    (written,) = completions(model.generate([prompt], max_new_tokens=16, logprobs=True))
    row = torch.tensor([[*model.prompt_ids(prompt), *written.ids]])
    given = model.model(row).logits[0].log_softmax(-1)
    first = len(model.prompt_ids(prompt))
    wanted = [float(given[first - 1 + i, t]) for i, t in enumerate(written.ids)]
    assert written.logprobs == pytest.approx(wanted, abs=1e-4)
    with counting() as cost:
        scores = model.score([prompt, "7", prompt], [" 15\nso", " 1", " 15"])
    ids = model.encode(" 15\nso")
    assert [len(s) for s in scores] == [len(ids), 1, 1] and scores[0][:1] == pytest.approx(scores[2], abs=1e-5)
    row = torch.tensor([[*model.prompt_ids(prompt), *ids]])
    given = model.model(row).logits[0].log_softmax(-1)
    assert scores[0] == pytest.approx([float(given[first - 1 + i, t]) for i, t in enumerate(ids)], abs=1e-4)
    assert cost.tokens_in == 3 * first + len(ids) + len(model.encode("7")) + 2 - first
    with pytest.raises(InputError, match="tokens: give at least one"):
        model.score([""], ["a"])


def test_a_stop_text_may_begin_and_end_within_tokens(model):
    (whole,) = completions(model.generate(["7"], max_new_tokens=60, temperature=1.0, seed=2, logprobs=True))
    for first in range(2, 30):
        stop = whole.text[first : first + 3]
        if "\ufffd" in stop or len(stop) < 3:
            continue
        (cut,) = completions(
            model.generate(["7"], max_new_tokens=60, temperature=1.0, seed=2, logprobs=True, stop=(stop, "absent"))
        )
        assert cut.finish == "stop" and cut.text == whole.text[: whole.text.find(stop)]
        assert cut.text.startswith(model.decode(cut.ids)) and whole.ids[: len(cut.ids)] == cut.ids
        assert len(cut.ids) == len(cut.logprobs) < cut.tokens <= len(cut.ids) + 4, "it ends at once"


def test_ids_are_kept_as_they_are_given(model):
    """Ids that the tokenizer would not give for their text are read as they are, in prompts and in begun answers."""
    letters = tuple(i for c in "so the answer" for i in model.encode(c))
    assert model.decode(letters) == "so the answer" and letters != model.encode("so the answer")
    ask = {"max_new_tokens": 10, "temperature": 1.0, "seed": 1}
    (begun,) = model.generate(["7 ="], prefix=letters, **ask)
    (joined,) = model.generate([(*model.prompt_ids("7 ="), *letters)], **ask)
    assert begun == joined and begun.tokens_in == len(model.encode("7 =")) + len(letters)
    assert begun.completions != model.generate(["7 ="], prefix="so the answer", **ask)[0].completions
    with pytest.raises(InputError, match="give 0 to 399"):
        model.generate([[1, 400]], max_new_tokens=1)
    with pytest.raises(InputError, match="a prompt is empty"):
        model.generate([""], max_new_tokens=1)


def test_chat_goes_by_the_template_and_names_of_special_tokens_in_a_text_are_text(model, tokenizer):
    messages = [{"role": "user", "content": "7?"}]
    wanted = tokenizer("<|user|>7?\n<|assistant|>", add_special_tokens=False).input_ids
    assert model.prompt_ids(messages) == tuple(wanted) and {2, 3} < set(wanted)
    assert not {2, 3} & set(model.prompt_ids("<|user|>7?\n<|assistant|>"))
    assert model.generate([messages], max_new_tokens=4)[0].tokens_in == len(wanted)
    bare = Transformers((model.model, tiny_models.tokenizer(template=None)))
    assert bare.capabilities == model.capabilities - {"chat"} and bare.name != model.name
    with pytest.raises(MissingCapability, match="chat"):
        bare.generate([messages], max_new_tokens=4)
    strict = tiny_models.tokenizer(template="{{ raise_exception('no system here') }}")
    with pytest.raises(InputError, match="refuses these messages: no system here"):
        Transformers((model.model, strict)).generate([messages], max_new_tokens=4)


def test_a_text_gets_what_the_tokenizer_puts_in_front_once(model):
    begun = Transformers((model.model, tiny_models.tokenizer(begin=True)))
    assert begun.prompt_ids("7") == (1, *begun.encode("7")) and begun.encode("7") == model.encode("7")
    assert begun.generate(["7"], prefix=" 1", max_new_tokens=1)[0].tokens_in == 2 + len(begun.encode(" 1"))


def test_several_marks_end_a_text(model, tokenizer):
    (whole,) = completions(model.generate(["7"], max_new_tokens=20, temperature=1.0, seed=2))
    other = tiny_models.model("llama", seed=13)
    other.generation_config.eos_token_id = [0, whole.ids[6]]
    (cut,) = completions(Transformers((other, tokenizer)).generate(["7"], max_new_tokens=20, temperature=1.0, seed=2))
    at = whole.ids.index(whole.ids[6])
    assert cut.ids == whole.ids[:at] and cut.finish == "stop" and cut.tokens == at + 1


def test_threads_share_a_batch_and_get_their_own_texts(model):
    ask = {"max_new_tokens": 20, "temperature": 1.0, "n": 2}
    alone = {i: model.generate([f"{i} + 1 ="], seed=i, **ask) for i in range(6)}
    got, before = {}, model.scheduler.rows.counters.ticks
    threads = [Thread(target=lambda i=i: got.update({i: model.generate([f"{i} + 1 ="], seed=i, **ask)})) for i in alone]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == alone and model.scheduler.rows.counters.ticks - before < 6 * 20


def test_a_folder_opens_by_its_path(folder, model):
    made = innerloop.open_model(str(folder), workers=1)
    assert isinstance(made, Transformers) and made.name.startswith("tiny (") and made.context == 512
    assert made.generate(PROMPTS, max_new_tokens=8) == model.generate(PROMPTS, max_new_tokens=8)
    assert made.name == Transformers(folder).name
    coarse = Transformers(folder, dtype=torch.bfloat16)
    assert coarse.model.dtype == torch.bfloat16 and coarse.cached and coarse.name != made.name
    ask = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}
    assert coarse.generate(PROMPTS, **ask) == coarse.generate(PROMPTS, **ask)
    with pytest.raises(InputError, match="more than the 512"):
        Transformers(folder, context=513)
    with pytest.raises(InputError, match="no language model is called"):
        innerloop.open_model(f"{folder}:2")
    with pytest.raises(InputError, match="rows=0"):
        Transformers(folder, rows=0)


@pytest.mark.parametrize(
    "broken",
    [
        "nothing",
        "no config",
        "no kind",
        "damaged",
        "weights",
        "pickle",
        "tokenizer",
        "code",
        "encoder",
        "cut",
        "lacking",
    ],
)
def test_a_folder_that_is_no_model_gets_one_sentence(broken, folder, tmp_path):
    path = tmp_path / "m"
    if broken != "nothing":
        path.mkdir()
        for file in folder.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
    config = path / "config.json"
    if broken == "no config":
        config.unlink()
    if broken in ("no kind", "code", "encoder"):
        value = json.loads(config.read_text())
        kinds = {"no kind": {}, "code": {"model_type": "own_kind"}, "encoder": {"model_type": "t5"}}
        value = {k: v for k, v in value.items() if k != "model_type"} | kinds[broken]
        if broken == "code":
            value["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
            (path / "evil.py").write_text(
                f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
            )
        config.write_text(json.dumps(value))
    if broken == "damaged":
        config.write_text("{")
    if broken in ("weights", "pickle"):
        (path / "model.safetensors").unlink()
    if broken == "pickle":
        torch.save(tiny_models.model("llama").state_dict(), path / "pytorch_model.bin")
    if broken == "cut":
        data = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(data[: len(data) // 2])
    if broken == "lacking":
        weights = load_file(path / "model.safetensors")
        save_file({k: v for k, v in weights.items() if "norm" not in k}, path / "model.safetensors", {"format": "pt"})
    if broken == "tokenizer":
        for file in path.glob("*token*"):
            file.unlink()
    with pytest.raises(InputError) as caught:
        Transformers(path)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 500 and str(path) in said
    assert not (tmp_path / "ran").exists(), "code of a folder is never run"


def test_a_cache_that_a_model_cannot_use_is_said(tokenizer):
    with pytest.warns(UserWarning, match="reads the whole text anew"):
        Transformers((tiny_models.model("bloom"), tokenizer))
    with pytest.raises(InputError, match="give cached=False"):
        Transformers((tiny_models.model("bloom"), tokenizer), cached=True)


def test_a_gguf_file_needs_its_packages_and_equal_ids(monkeypatch, tmp_path, tokenizer):
    path = tmp_path / "m.gguf"
    with pytest.raises(InputError, match=str(path)):
        Transformers(path)
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(hf_loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs gguf"):
        Transformers(path)


def test_a_tokenizer_with_other_ids_than_llama_cpp_is_refused(tokenizer):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install 'innerloop[local]'")
    path = found("smollm2")
    if path is None:
        pytest.skip("the weights are not here: innerloop get smollm2")
    with pytest.raises(InputError, match="as the ids"):
        hf_loading.check_ids(tokenizer, path)


@pytest.mark.skipif(
    find_spec("transformers") is None or not torch.cuda.is_available(), reason="there is no CUDA device"
)
def test_a_gpu_writes_what_the_cpu_writes(folder, model):
    there = Transformers(folder, device="cuda")
    ask = {"max_new_tokens": 20, "temperature": 1.0, "seed": 3, "stop": ("\n",)}
    assert there.generate(PROMPTS, **ask) == model.generate(PROMPTS, **ask)
