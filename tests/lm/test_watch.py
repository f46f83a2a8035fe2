"""Texts that are seen while they are written, and ended before they are done."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from innerloop.ledger import counting, in_this_context
from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import Cancelled, Pieces, Watch, part, watched, watching

LONG = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3, "logprobs": True}


def seen(model, prompts, **how):
    """(the replies, the pieces of each completion)."""
    pieces = []
    with watching(Watch(pieces.append)):
        replies = model.generate(prompts, **how)
    made = [c for r in replies for c in r.completions]
    return replies, [[p for p in pieces if p.completion == i] for i in range(len(made))]


@pytest.mark.parametrize("stop", [(), ("\n",), ("=x", "xx+", "3,")])
def test_pieces_are_the_begin_of_the_text_and_hold_no_part_of_a_stop_text(stop, untrained):
    model = untrained()
    prompts = ["1+1=", "2+2=", "so "]
    replies, pieces = seen(model, prompts, n=3, stop=stop, **LONG)
    assert replies == model.generate(prompts, n=3, stop=stop, **LONG), "as unwatched"
    made = [c for r in replies for c in r.completions]
    shown = 0
    for completion, mine in zip(made, pieces, strict=True):
        text = "".join(p.text for p in mine)
        ids = model.encode(text)
        assert ids == completion.ids[: len(ids)] and len(ids) == sum(len(p.tokens) for p in mine)
        assert [x for p in mine for x in p.logprobs] == list(completion.logprobs[: len(ids)])
        assert len(completion.ids) - len(ids) <= max(map(len, stop), default=1), "no more is held back than a stop text"
        shown += len(mine)
    assert shown > 60 and (not stop or any(c.finish == "stop" for c in made))


def test_what_may_be_a_stop_text_is_held_back_until_it_is_none():
    given = []
    pieces = Pieces(given.append, 0, [(1, 2, 3), (2, 2)], lambda ids: "".join(map(str, ids)))
    for token, shown in zip((5, 1, 2, 1, 2, 4, 2), ("5", "5", "5", "512", "512", "512124", "512124"), strict=True):
        pieces(token, -1.0)
        assert "".join(p.text for p in given) == shown


def test_cancelling_ends_a_text_with_what_it_has_and_no_other(untrained):
    """Two threads share the batch; one of them cancels itself at its third token."""
    model = untrained()
    whole = model.generate(["2+2="], **LONG)[0].completions[0].ids
    count, watch = [], Watch()

    def third(piece):
        count.append(piece)
        if len(count) == 3:
            watch.cancel()

    watch.piece = third

    def cancelled():
        with counting() as cost, watching(watch):
            (reply,) = model.generate(["1+1="], **LONG)
            with pytest.raises(Cancelled):
                model.generate(["1+1="], **LONG)
        return reply, cost

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(model.generate, ["2+2="], **LONG)
        reply, cost = pool.submit(cancelled).result()
        assert other.result()[0].completions[0].ids == whole
    assert reply.tokens_out in (3, 4) and cost.tokens_out == reply.tokens_out and cost.completions == 1
    assert reply.completions[0].text.startswith("".join(p.text for p in count))


def test_a_text_that_waits_for_a_row_is_cancelled_too(untrained):
    model = untrained()  # of four rows
    watch = Watch()
    watch.piece = lambda piece: watch.cancel()
    with watching(watch):
        (reply,) = model.generate(["1+1="], n=6, **LONG)
    assert sorted(c.tokens > 0 for c in reply.completions) == [False] * 2 + [True] * 4


def test_workers_are_watched_and_a_watch_that_was_cancelled_lets_nothing_begin():
    model, watch = Scripted(["text"]), Watch()
    with watching(watch), ThreadPoolExecutor(1) as pool:
        call = in_this_context(lambda: model.generate(["x"], max_new_tokens=5))
        watch.cancel()
        with pytest.raises(Cancelled, match="before it began"):
            pool.submit(call).result()
    assert model.generate(["x"], max_new_tokens=5), "outside nothing is watched"


def test_pieces_carry_the_path_of_their_part_and_parts_share_one_cancellation(untrained):
    model, pieces = untrained(), []
    watch = Watch(pieces.append)
    with watching(watch):
        model.generate(["1+1="], **LONG)
        with part((2,)):
            model.generate(["1+1="], **LONG)
            with part((2, "judge")):
                model.generate(["1+1="], **LONG)
            inner = watched()
        assert watched() is watch and inner is not watch
    texts = {path: "".join(p.text for p in pieces if p.path == path) for path in ((), (2,), (2, "judge"))}
    assert len(set(texts.values())) == 1 and all(texts.values()) and len(pieces) == 3 * len([*texts[()]])
    assert not inner.cancelled
    watch.cancel()
    assert inner.cancelled
